"""Operators' decisions: which are in force, and what they ask for. Pure.

A frozen or pinned namespace *stands*: its events are folded on, but what is published stays. Decisions are
carried out one at a time between two events, and each makes a version; the place is written down in the manifest,
because a control topic and an event topic have no common order.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from schemas.control import (
    Decision,
    ExcludeDatacenter,
    Freeze,
    IncludeDatacenter,
    Pin,
    Release,
    Unfreeze,
    Unpin,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import Datacenter

MAX_DECISIONS_BYTES = 1024 * 1024
"""Of the texts of all decisions that a manifest names: each manifest repeats them."""

_UNDOES: dict[type, type] = {Unfreeze: Freeze, Freeze: Freeze, Unpin: Pin, Pin: Pin}
_LEFT_STANDING = (Freeze, Pin, ExcludeDatacenter)


def in_force(former: tuple[Decision, ...], new: Decision) -> tuple[Decision, ...]:
    """The decisions over a namespace that are in force after a new one, oldest first.

    Releases are not among them: what they did is done.
    """
    body = new.event.body
    match body:
        case ExcludeDatacenter(datacenter=datacenter) | IncludeDatacenter(datacenter=datacenter):
            kept = [
                one
                for one in former
                if not (isinstance(one.event.body, ExcludeDatacenter) and one.event.body.datacenter == datacenter)
            ]
        case Release():
            return former
        case Freeze() | Unfreeze() | Pin() | Unpin():
            kept = [one for one in former if not isinstance(one.event.body, _UNDOES[type(body)])]
    return (*kept, new) if isinstance(body, _LEFT_STANDING) else tuple(kept)


def without_releases(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Those in force, of what a manifest names."""
    return tuple(one for one in decisions if not isinstance(one.event.body, Release))


def releases_of(decisions: Iterable[Decision]) -> list[Decision]:
    """The releases, of what a manifest names."""
    return [one for one in decisions if isinstance(one.event.body, Release)]


def stands(decisions: Iterable[Decision]) -> bool:
    """Whether what is published stays as it is."""
    return any(isinstance(one.event.body, Freeze | Pin) for one in decisions)


def pin_of(decisions: Iterable[Decision]) -> Pin | None:
    """The version that the namespace is pinned to."""
    return next((one.event.body for one in decisions if isinstance(one.event.body, Pin)), None)


def excluded(decisions: Iterable[Decision]) -> frozenset[Datacenter]:
    """The datacenters that are left out."""
    return frozenset(
        one.event.body.datacenter for one in decisions if isinstance(one.event.body, ExcludeDatacenter)
    )


def size_of(decision: Decision) -> int:
    """About how many bytes of a manifest a decision takes."""
    event = decision.event
    texts = [event.namespace, event.author, event.reason]
    texts += [value for field in fields(event.body) if isinstance(value := getattr(event.body, field.name), str)]
    numbers = [*decision.position, *(event.body.version if isinstance(event.body, Pin) else ())]
    return 64 + sum(len(text.encode("utf-8", "replace")) for text in texts) + sum(len(n) + 12 for n in numbers)


def held_place(release: Release, namespace: str) -> tuple[str, ...]:
    """Where the hold is that a release overrides, as the guard names it."""
    match release.scope:
        case "service":
            group, _, service = release.service.partition("@@")
            return (namespace, group, service)
        case "namespace":
            return (namespace,)
        case _:
            return ()
