"""Watches a Nacos cluster, compares with what was published, and publishes the difference."""
