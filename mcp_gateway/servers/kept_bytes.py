"""A limit on the bytes that are kept because peers name resources, or state what they have.

A Pilot names nothing and states little. A client of ADS or Delta ADS may subscribe to thousands of names on each
of its streams, and each name is kept in several places.
"""

from __future__ import annotations

from collections import Counter

from mcp_gateway.errors import TooMuchError

MAX_BYTES_OF_PEER = 64 * 1024 * 1024
MAX_BYTES = 256 * 1024 * 1024


class KeptBytes:
    """Bytes that are kept, by peer and in all. Belongs to the event loop.

    A peer is an identity, or an address without its port: see `admission.peer_name`.
    """

    def __init__(self, of_peer: int = MAX_BYTES_OF_PEER, in_all: int = MAX_BYTES) -> None:
        self._of_peer, self._in_all = of_peer, in_all
        self._by_peer: Counter[str] = Counter()
        self.bytes = 0

    def change(self, peer: str, by: int) -> None:
        """So many bytes more are kept for that peer, or fewer.

        Raises:
            TooMuchError: it would be too many, and nothing was counted.
        """
        if by > 0:
            if self._by_peer[peer] + by > self._of_peer:
                raise TooMuchError(
                    f"more than {self._of_peer} bytes of names and versions from {peer}: subscribe to whole types "
                    "instead of names, or to fewer"
                )
            if self.bytes + by > self._in_all:
                raise TooMuchError("too many names and versions from all peers of this gateway; try again later")
        self.bytes += by
        self._by_peer[peer] += by
        if not self._by_peer[peer]:
            del self._by_peer[peer]
