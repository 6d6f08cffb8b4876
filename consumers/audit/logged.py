"""Records with their place in the log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from schemas.events import RegistryEvent
    from schemas.records import Manifest


class Published(NamedTuple):
    """A manifest in the history: its offset there, and when it was published, milliseconds (UTC)."""

    manifest: Manifest
    offset: int
    at_ms: int


class LoggedEvent(NamedTuple):
    """An event of the registry, where it stands, and when it was written, milliseconds (UTC)."""

    topic: str
    offset: int
    at_ms: int
    event: RegistryEvent
