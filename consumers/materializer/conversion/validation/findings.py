"""What a validation finds: a fault or a warning, and where. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

Path = tuple[str | int, ...]


class FieldError(Exception):
    """A value that its field can't have."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(detail)
        self.path = path
        self.detail = detail


class Finding(NamedTuple):
    """What is wrong with a field, or only unwise."""

    path: Path
    detail: str
    is_warning: bool = False


Findings = Iterator[Finding]


def warning(path: Path, detail: str) -> Finding:
    """What Istio takes, and warns of."""
    return Finding(path, detail, is_warning=True)


def quoted(text: object) -> str:
    """A value as a message shows it, cut."""
    shown = str(text)
    return repr(shown if len(shown) <= 80 else f"{shown[:80]}...")
