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


def find_version(text: str, history: Iterable[Manifest]) -> Manifest:
    """The newest manifest that a text names: a version, an offset of the registry events, or digits of a digest.

    Raises:
        CommandError: there is none.
    """
    found = None
    for manifest in history:
        is_digest = len(text) >= _MIN_DIGITS and manifest.digest.startswith(text)
        is_offset = text.isdigit() and manifest.version.get(REGISTRY_EVENTS) == int(text)
        if is_digest or is_offset or format_version(manifest.version) == text:
            found = manifest
    if found is None:
        raise CommandError(
            f"no version {text} in the history of this namespace; name it as `shiplog control list` does, by its "
            f"offset in {REGISTRY_EVENTS}, or by at least {_MIN_DIGITS} digits of its digest"
        )
    return found
