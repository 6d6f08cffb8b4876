"""The command line, and the local stack that it can start."""

from importlib import metadata

__version__ = metadata.version("shiplog")
