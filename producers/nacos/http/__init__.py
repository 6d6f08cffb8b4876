"""Nacos's HTTP interface: the client, and one module for each generation of paths."""
