"""Tells streams what has changed in their view. Belongs to the event loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mcp_gateway.views.view import View


@dataclass(slots=True, eq=False)
class Subscription:
    """An event, and the collections to look at since they were taken: what comes meanwhile is one wake-up."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _noted: dict[str, None] = field(default_factory=dict)

    def note(self, collections: dict[str, None]) -> None:
        """These have new versions, or were asked for (a dict, as a set that keeps its order)."""
        self._noted.update(collections)
        self.woken.set()

    def take(self) -> Collection[str]:
        """What was noted, in that order; nothing is, afterwards."""
        noted, self._noted = self._noted, {}
        return noted


class Publisher:
    """A view, and those who follow it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._subscriptions: set[Subscription] = set()

    @contextmanager
    def subscribed(self, subscription: Subscription) -> Iterator[None]:
        """The subscription is told of each change."""
        self._subscriptions.add(subscription)
        try:
            yield
        finally:
            self._subscriptions.discard(subscription)

    def changed(self, collections: Collection[str]) -> None:
        """These collections have new versions."""
        noted = dict.fromkeys(collections)
        for subscription in self._subscriptions:
            subscription.note(noted)

    def count(self) -> int:
        """How many follow."""
        return len(self._subscriptions)
