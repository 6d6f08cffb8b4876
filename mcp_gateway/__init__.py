"""From snapshots to Pilots: the store, sans-I/O sessions for each protocol, the gRPC servers around them."""
