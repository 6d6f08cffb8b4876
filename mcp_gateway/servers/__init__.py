"""The gRPC servers around the sessions: bytes in and out, and nothing decided here."""
