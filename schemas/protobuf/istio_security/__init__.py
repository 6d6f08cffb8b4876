"""Generated; see the .proto beside it."""
