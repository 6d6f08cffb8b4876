"""The process shell, free of the domain: settings, lifecycle, Kafka at the edge, admin HTTP."""
