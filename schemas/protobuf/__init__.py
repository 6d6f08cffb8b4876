"""Generated protobuf messages, each definition in a package of its own (`make generate`)."""
