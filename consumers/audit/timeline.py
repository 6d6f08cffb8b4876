"""A namespace's history as a line of time: each version, or slices of it when there are many. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.audit.logged import Published


@dataclass(slots=True)
class Slice:
    """What was published from one moment on, milliseconds (UTC), for so long; holds and the like in it."""

    from_ms: int
    length_ms: int
    versions: int = 0
    resources: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    version: dict[str, int] = field(default_factory=dict)
    digest: str = ""
    reasons: dict[str, None] = field(default_factory=dict)
    holds: dict[str, None] = field(default_factory=dict)
    decisions: dict[str, None] = field(default_factory=dict)
    links: dict[str, None] = field(default_factory=dict)

    def take(self, published: Published) -> None:
        """One more version."""
        manifest = published.manifest
        self.versions += 1
        self.resources = manifest.resources
        self.added += manifest.added
        self.changed += manifest.changed
        self.removed += manifest.removed
        self.version, self.digest = manifest.version, manifest.digest
        self.reasons[manifest.reason] = None
        self.holds |= dict.fromkeys(manifest.holds)
        self.decisions |= dict.fromkeys(
            f"{type(one.event.body).__name__} by {one.event.author}" for one in manifest.decisions
        )
        self.links |= dict.fromkeys(
            f"{name} {link}" for name, link in manifest.links.items() if link is not Link.LIVE
        )

    @property
    def changes_per_s(self) -> float:
        """How many resources changed a second."""
        return (self.added + self.changed + self.removed) / max(self.length_ms / 1000, 0.001)


def slices(history: Iterable[Published], from_ms: int, to_ms: int, count: int) -> list[Slice]:
    """The history in so many slices of equal length; those in which nothing was published are left out."""
    length_ms = max(1, -(-(to_ms - from_ms) // count))
    found: dict[int, Slice] = {}
    for published in history:
        number = min(max(0, (published.at_ms - from_ms) // length_ms), count - 1)
        if number not in found:
            found[number] = Slice(from_ms + number * length_ms, length_ms)
        found[number].take(published)
    return [found[number] for number in sorted(found)]
