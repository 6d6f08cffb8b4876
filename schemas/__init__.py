"""What travels between shiplog's processes: schemas, typed events and records, topics, partitioner."""
