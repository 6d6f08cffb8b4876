"""Names and the conversion of services as revision 1 did it, for audits and pins of what it published. Pure.

Frozen: its output is recorded in golden files. It goes when no log of its time is kept any more.
"""
