"""One peer's watch on one collection: what it asked for, has, refused, and what is on its way. Pure.

                      request (first)      ACK of pending        NACK of pending       new version
    idle              -                    -                     -                     nothing
    pending v         send present         acknowledged = v,     refused = v,          nothing: one message is
                                           next if newer         next if newer         in flight, latest wins
    settled           send present         stale                 stale                 send, unless refused

A nonce is the version that was sent, so every gateway speaks the same bytes. A stale nonce changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Answer(Enum):
    """What a request meant."""

    INITIAL = auto()
    ACK = auto()
    NACK = auto()
    STALE = auto()


@dataclass(slots=True)
class Watch:
    """The state of one (stream, collection); `asked_as` is the peer's own name of the collection.

    `incremental` says that the peer wants differences; `has` is what it says that it has from before, by name and
    version, and is asked for once.
    """

    collection: str
    asked_as: str
    pending: str | None = None
    acknowledged: str | None = None
    refused: str | None = None
    incremental: bool = False
    has: dict[str, str] | None = None

    def request(self, nonce: str, *, initial: bool, error: bool) -> Answer:
        """Takes a request; `initial` says that the protocol reads it as the first of its kind."""
        if initial:
            self.pending = None
            self.acknowledged = None
            self.refused = None
            return Answer.INITIAL
        if nonce != self.pending:
            return Answer.STALE
        self.pending = None
        if error:
            self.refused = nonce
            return Answer.NACK
        self.acknowledged = nonce
        self.refused = None
        return Answer.ACK

    def next(self, present: str) -> bool:
        """Whether the present version is to be sent now; if so, it is on its way."""
        if self.pending is not None or present in {self.acknowledged, self.refused}:
            return False
        self.pending = present
        return True

    def take_basis(self) -> str | dict[str, str] | None:
        """What the push may be a difference to: what the peer has; None when it is to be sent everything."""
        if not self.incremental:
            return None
        has, self.has = self.has, None
        return self.acknowledged if has is None else has
