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
from typing import TYPE_CHECKING

from mcp_gateway.views.stated import Differing, Stated

if TYPE_CHECKING:
    from mcp_gateway.views.view import Basis, MessageFormat, View


class Answer(Enum):
    """What a request meant."""

    INITIAL = auto()
    ACK = auto()
    NACK = auto()
    STALE = auto()
    SUBSCRIPTION = auto()
    """It changes what is subscribed to, and answers nothing."""


@dataclass(slots=True)
class Watch:
    """The state of one (stream, collection); `asked_as` is the peer's own name of the collection.

    `incremental` says that the peer wants differences; `has` is what it says that it has from before, until it
    acknowledges a push. `names_bytes` is what the names that it subscribes to take in memory.
    """

    collection: str
    asked_as: str
    pending: str | None = None
    acknowledged: str | None = None
    refused: str | None = None
    incremental: bool = False
    has: Stated | Differing | None = None
    names_bytes: int = 0

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
        self.has = None
        return Answer.ACK

    def next(self, present: str) -> bool:
        """Whether the present version is to be sent now; if so, it is on its way."""
        if self.pending is not None or present in (self.acknowledged, self.refused):
            return False
        self.pending = present
        return True

    def is_settled(self, present: str) -> bool:
        """Whether there is nothing to be sent: the present version is what the peer has."""
        return self.pending is None and self.acknowledged == present

    @property
    def kept(self) -> int:
        """Bytes that are kept because the peer named or stated something."""
        return self.names_bytes if self.has is None else self.names_bytes + self.has.bytes

    @property
    def basis(self) -> Basis:
        """What a push may be a difference to: what the peer has; None when it is to be sent everything."""
        if not self.incremental:
            return None
        return self.has if self.acknowledged is None else self.acknowledged

    def awaits_more(self, size: int, view: View) -> bool:
        """Whether its next push may have more bytes than that, as far as can be told without making it."""
        basis = self.basis
        return view.known(self.collection).exceeds(size, basis if isinstance(basis, str) else None)

    def message(self, view: View, message_format: MessageFormat) -> bytes | None:
        """The push that is due."""
        self.compare(view)
        return view.message(self.collection, message_format, self.asked_as, self.basis)

    def compare(self, view: View) -> None:
        """Replaces what the peer stated by what differs from it: little, for a peer that was away briefly."""
        if isinstance(self.has, Stated):
            self.has = view.known(self.collection).compare(self.has)
