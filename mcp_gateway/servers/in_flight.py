"""A limit on the bytes of large pushes that are on their way at once.

gRPC copies each message when it is written and keeps the copy until the peer has read it: a hundred peers of a
50 MB snapshot would take 5 GB, and a thousand that read nothing 50. So large pushes go out a few at a time. One
that has to wait is not made yet: its peer gets the version that is the latest when its turn comes.
"""

from __future__ import annotations

from typing import Protocol

LARGE = 64 * 1024
"""Bytes; smaller pushes go out at once and are not counted: the number of streams is limited, too."""


class Waiter(Protocol):
    """A stream with a large push to send; compared by identity."""

    def room(self) -> None:
        """There is room; never raises. A waiter that can't make use of it now asks again when it can."""


class InFlight:
    """Bytes on their way, and those who wait in line for room. Belongs to the event loop.

    A push is counted when it is made, and goes beyond the limit by as much as it is larger than what was left: so
    even one that is larger than the limit goes out.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._line: dict[Waiter, None] = {}
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether a large push has to wait."""
        return self.bytes >= self._max

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def is_waiting(self, waiter: Waiter) -> bool:
        """Whether it is in line."""
        return waiter in self._line

    def wait(self, waiter: Waiter) -> None:
        """It is told when there is room, after those that came before it; who is in line keeps its place."""
        self._line[waiter] = None

    def leave(self, waiter: Waiter) -> None:
        """It wants nothing any more."""
        self._line.pop(waiter, None)

    def take(self, size: int) -> None:
        """A push of that size was made."""
        if size >= LARGE:
            self.bytes += size

    def give_back(self, size: int) -> None:
        """A push of that size was read by its peer, or will never be sent."""
        if size < LARGE:
            return
        self.bytes -= size
        while self._line and not self.is_full:
            first = next(iter(self._line))
            del self._line[first]
            first.room()
