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
    """An event, and the collections that changed since they were taken: what comes meanwhile is one wake-up."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: set[str] = field(default_factory=set)

    def note(self, collections: Collection[str]) -> None:
        """These have new versions."""
        self._changed.update(collections)
        self.woken.set()

    def take(self) -> set[str]:
        """What changed; nothing has, afterwards."""
        changed, self._changed = self._changed, set()
        return changed


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
        for subscription in self._subscriptions:
            subscription.note(collections)

    def count(self) -> int:
        """How many follow."""
        return len(self._subscriptions)
