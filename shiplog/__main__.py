"""`python -m shiplog`."""

from shiplog.cli import main

main()
