"""What was published, and whether the log gives it again: read-only, from the log alone."""
