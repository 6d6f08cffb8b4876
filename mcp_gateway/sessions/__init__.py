"""One sans-I/O session per protocol: requests and new versions in, what to send out. No clock, no gRPC."""
