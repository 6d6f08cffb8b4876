"""Benchmarks: each is a command, prints what it measured, and says how."""
