"""Who may open a stream, and when: identities, numbers, pace. Belongs to the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mcp_gateway.errors import NotAllowedError, TooManyError
from mcp_gateway.patterns import matches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from mcp_gateway.settings import GatewaySettings


class Pace:
    """So many turns a second, and a burst of that many at once."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._interval = 1 / per_s
        self._ahead = burst / per_s
        self._next = 0.0

    def wait_s(self) -> float:
        """How long to wait for the next turn, which is taken."""
        now = time.monotonic()
        self._next = max(self._next, now - self._ahead) + self._interval
        return max(0.0, self._next - now)

    def give_back(self) -> None:
        """The last turn was not made use of."""
        self._next -= self._interval


class Admission:
    """Lets streams in one after the other.

    When all Pilots come at once, as after a restart, the gateway is not to encode and send everything at the same
    time: they wait in line, which costs them less than a refusal and another attempt.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._allowed = settings.allowed_identities
        self._limits = settings.limits
        self._pace = Pace(self._limits.streams_per_s, self._limits.streams_per_s)
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, identities: Sequence[str], address: str) -> AsyncIterator[None]:
        """Waits for the stream's turn, and counts it until it ends.

        Raises:
            NotAllowedError, TooManyError: it is refused.
        """
        if self._allowed and not any(matches(identity, self._allowed) for identity in identities):
            raise NotAllowedError("your certificate's identity is not allowed here")
        who = peer_name(identities, address)
        if self._open.total() >= self._limits.max_streams:
            raise TooManyError("too many streams on this gateway")
        if self._open[who] >= self._limits.max_streams_per_identity:
            raise TooManyError(f"too many streams of {who} on this gateway")
        self._open[who] += 1
        try:
            wait_s = self._pace.wait_s()
            if wait_s > self._limits.max_wait_s:
                self._pace.give_back()
                raise TooManyError("too many streams are opened at once; try again later")
            if wait_s:
                await asyncio.sleep(wait_s)
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


def peer_name(identities: Sequence[str], address: str) -> str:
    """The name under which a peer's limits are counted: its identity, or its address without the port."""
    return identities[0] if identities else address.rpartition(":")[0]
