"""`shiplog watch`: what a Pilot would get, change by change."""
