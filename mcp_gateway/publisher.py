"""Tells streams that a view has changed. Belongs to the event loop."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mcp_gateway.view import View


class Publisher:
    """A view, and an event per stream that is set when it changed: what comes meanwhile is one wake-up."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._subscribers: set[asyncio.Event] = set()

    @contextmanager
    def subscribed(self) -> Iterator[asyncio.Event]:
        """An event that is set at each change; the subscriber clears it."""
        event = asyncio.Event()
        self._subscribers.add(event)
        try:
            yield event
        finally:
            self._subscribers.discard(event)

    def changed(self) -> None:
        """The view has new versions."""
        for event in self._subscribers:
            event.set()
