"""Auditors' questions from the command line."""
