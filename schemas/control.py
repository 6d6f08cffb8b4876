"""The events of `shiplog.control.events`: operators' decisions over a namespace."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """A hold of the guard is overridden; `service` is `group@@service`, and empty for the wider scopes."""

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


class Decision(NamedTuple):
    """A decision as it was carried out: its offset in the control topic, and what of the log came before it.

    `position` maps each event topic to the last event folded before. Two topics have no common order: this is
    where it is written down.
    """

    event: ControlEvent
    offset: int
    position: dict[str, int]


def decision_to_avro(decision: Decision) -> dict[str, Any]:
    """The decision as fastavro writes it: flat."""
    event = decision.event
    return {
        "kind": type(event.body).__name__,
        "namespace": event.namespace,
        "author": event.author,
        "reason": event.reason,
        "issued_at": event.issued_at,
        "offset": decision.offset,
        "position": decision.position,
        **{field.name: getattr(event.body, field.name) for field in fields(event.body)},
    }


def decision_from_avro(value: dict[str, Any]) -> Decision:
    """The decision that fastavro read."""
    kind = _BODIES.get(value["kind"])
    if kind is None:
        raise UndecodableRecordError("unknown_decision", f"no decision is called {value['kind']}")
    event = ControlEvent(
        namespace=value["namespace"],
        author=value["author"],
        reason=value["reason"],
        issued_at=value["issued_at"],
        body=kind(**{field.name: value[field.name] for field in fields(kind)}),
    )
    return Decision(event, value["offset"], value["position"])
