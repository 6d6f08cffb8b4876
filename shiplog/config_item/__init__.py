"""What shiplog would do with a config item, before it is published in Nacos."""
