"""What an audit can say of a snapshot."""

from enum import StrEnum


class Verdict(StrEnum):
    """What is proven: nothing is verified without its digest, and what can't be proven is no mismatch."""

    VERIFIED = "VERIFIED"
    MISMATCH = "MISMATCH"
    UNVERIFIABLE = "UNVERIFIABLE"
