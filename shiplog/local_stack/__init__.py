"""Kafka, Nacos and shiplog's processes as children of one process: for trials and for tests."""
