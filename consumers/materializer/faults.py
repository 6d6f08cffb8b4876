"""What can't be used of a record, or made of the state: where, why, and of our own faults the trace. Pure."""

from __future__ import annotations

import traceback
from enum import StrEnum
from typing import NamedTuple

_MAX_PLACE = 300
_MAX_DETAIL = 600
_MAX_TRACE = 16_000
_FRAMES = 20
MAX_TOLD = 10
"""Faults that one record or update tells of one by one; of more, it tells how many."""


class Reason(StrEnum):
    """Why something is set aside; fit for a metric's label."""

    BAD_ITEM = "bad_item"
    """A config item that is wrong; its last good version stands."""
    BAD_INSTANCE = "bad_instance"
    """An instance that no endpoint can be made of; it is not listed."""
    BAD_NAME = "bad_name"
    """A namespace or datacenter whose name can't be part of a record's key."""
    INTERNAL_FAULT = "internal_fault"
    """An exception that nobody foresaw; what it came from is left out, all else goes on."""


class Fault(NamedTuple):
    """Something that is set aside; `trace` is empty where the fault was foreseen."""

    reason: str
    """A `Reason`, or that of an undecodable record."""
    place: str
    detail: str
    trace: str = ""

    def __str__(self) -> str:
        """As the quarantine names it."""
        return ", ".join(part for part in (self.place, self.detail) if part)


def foreseen(reason: Reason, place: str, detail: str) -> Fault:
    """A fault of what was said, in a few hundred characters."""
    return Fault(reason, _text(place, _MAX_PLACE), _text(detail, _MAX_DETAIL))


def internal(place: str, error: Exception) -> Fault:
    """An exception that nobody foresaw, with the end of its trace."""
    told = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error, limit=-_FRAMES))
    return Fault(
        Reason.INTERNAL_FAULT, _text(place, _MAX_PLACE), _text(told, _MAX_DETAIL), _text(trace[-_MAX_TRACE:])
    )


def cut(faults: list[Fault], place: str) -> list[Fault]:
    """At most `MAX_TOLD` of the faults of a place, and how many more there are."""
    if len(faults) <= MAX_TOLD:
        return faults
    told = faults[: MAX_TOLD - 1]
    return [*told, Fault(faults[-1].reason, place, f"{len(faults) - len(told)} more, the last: {faults[-1]}")]


def _text(text: str, limit: int = _MAX_TRACE) -> str:
    """Cut, and what is no Unicode replaced: it goes into logs and records."""
    return text[:limit].encode("utf-8", "replace").decode()
