"""Real Kafka, real Nacos and shiplog's processes for tests and benchmarks."""
