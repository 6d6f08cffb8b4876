"""Versions as people write them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.topics import REGISTRY_EVENTS
from shiplog.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.records import Manifest

_MIN_DIGITS = 6


def format_version(version: dict[str, int]) -> str:
    """`topic=offset`, joined by commas."""
    return ",".join(f"{topic}={offset}" for topic, offset in sorted(version.items()))


def is_named(text: str, manifest: Manifest) -> bool:
    """Whether a text names a manifest: by its version, its offset of the events, or digits of its digest."""
    is_digest = len(text) >= _MIN_DIGITS and manifest.digest.startswith(text)
    is_offset = text.isdigit() and manifest.version.get(REGISTRY_EVENTS) == int(text)
    return is_digest or is_offset or format_version(manifest.version) == text


def no_such_version(text: str) -> CommandError:
    """What to say when no manifest of a history has that name."""
    return CommandError(
        f"no version {text} in the history of this namespace; name it as `shiplog control list` or `shiplog audit "
        f"timeline` does, by its offset in {REGISTRY_EVENTS}, or by at least {_MIN_DIGITS} digits of its digest"
    )


def find_version(text: str, history: Iterable[Manifest]) -> Manifest:
    """The newest manifest that a text names.

    Raises:
        CommandError: there is none.
    """
    found = None
    for manifest in history:
        if is_named(text, manifest):
            found = manifest
    if found is None:
        raise no_such_version(text)
    return found
