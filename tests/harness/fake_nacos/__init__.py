"""A Nacos server that speaks the documented protocol, for what a real one can't be made to show.

Faults, 1.x, 3.x, TLS: 3.x servers can't be had from Maven.
"""
