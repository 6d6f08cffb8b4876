"""What Istio refuses of its own kinds, and what it warns of: the rules of its schemas and of its webhook. Pure.

`schema` and the tables beside it know single fields: which are required, their ranges, patterns and sizes. The
other modules know what spans fields, a function for each kind of message. The first revision of the conversion
validated nothing of this.
"""
