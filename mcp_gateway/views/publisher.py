"""Tells streams what has changed in their view. Belongs to the event loop."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mcp_gateway.views.view import View


class Follower(Protocol):
    """A stream that follows a view; compared by identity."""

    def changed(self, collections: dict[str, None]) -> None:
        """These collections have new versions (a dict, as a set that keeps its order)."""

    def failed(self, error: Exception) -> None:
        """`changed` raised this: the follower ends; never raises."""


class Publisher:
    """A view, and those who follow it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._followers: set[Follower] = set()

    @contextmanager
    def followed_by(self, follower: Follower) -> Iterator[None]:
        """The follower is told of each change."""
        self._followers.add(follower)
        try:
            yield
        finally:
            self._followers.discard(follower)

    def changed(self, collections: Collection[str]) -> None:
        """These collections have new versions. A follower that fails keeps no other from hearing of it."""
        noted = dict.fromkeys(collections)
        for follower in tuple(self._followers):
            try:
                follower.changed(noted)
            except Exception as error:  # noqa: BLE001 - the follower's owner hears of it
                follower.failed(error)

    def count(self) -> int:
        """How many follow."""
        return len(self._followers)
