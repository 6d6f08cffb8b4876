"""Operators' decisions from the command line."""
