"""The events of `shiplog.control.events`: operators' decisions over a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.errors import UndecodableRecordError

if TYPE_CHECKING:
    from schemas.events import Datacenter, Namespace

_RECORD = "io.shiplog.v1."


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """The published snapshot stands until unfrozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfreeze:
    """The present is published again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The namespace goes back to a version: event topic -> offset."""

    version: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpin:
    """The present is published again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A hold of the guard is overridden."""

    scope: str
    datacenter: Datacenter
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludeDatacenter:
    """A datacenter's endpoints are left out."""

    datacenter: Datacenter


@dataclass(frozen=True, slots=True, kw_only=True)
class IncludeDatacenter:
    """A datacenter's endpoints count again."""

    datacenter: Datacenter


ControlBody = Freeze | Unfreeze | Pin | Unpin | Release | ExcludeDatacenter | IncludeDatacenter

_BODIES: dict[str, type[ControlBody]] = {
    kind.__name__: kind for kind in (Freeze, Unfreeze, Pin, Unpin, Release, ExcludeDatacenter, IncludeDatacenter)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlEvent:
    """A decision, who took it and why; `issued_at` in microseconds (UTC)."""

    namespace: Namespace
    author: str
    reason: str
    issued_at: int
    body: ControlBody


def to_avro(event: ControlEvent) -> dict[str, Any]:
    """The event as fastavro writes it."""
    body = event.body
    fields = {name: getattr(body, name) for name in body.__slots__}
    return {
        "namespace": event.namespace,
        "author": event.author,
        "reason": event.reason,
        "issued_at": event.issued_at,
        "body": (_RECORD + type(body).__name__, fields),
    }


def from_avro(value: dict[str, Any]) -> ControlEvent:
    """The event that fastavro read."""
    name, fields = value["body"]
    kind = _BODIES.get(name.removeprefix(_RECORD))
    if kind is None:
        raise UndecodableRecordError("unknown_event", f"no control event is called {name}")
    return ControlEvent(**{**value, "body": kind(**fields)})
