"""Events of the registry as answers show them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.times import time_text
from schemas.events import (
    ConfigGone,
    ConfigState,
    Heartbeat,
    NamespaceGone,
    ServiceDelta,
    ServiceGone,
    ServicePart,
    ServiceState,
    SyncCompleted,
    SyncStarted,
)

if TYPE_CHECKING:
    from consumers.audit.logged import LoggedEvent
    from schemas.events import Instance, RegistryBody, ServiceKey

_SHOWN = 5


def describe_event(logged: LoggedEvent) -> dict[str, Any]:
    """Where it stands, who wrote it, and what it says, in a line."""
    event = logged.event
    return {
        "event": f"{logged.topic}@{logged.offset}",
        "seen_at": time_text(event.observed_at),
        "datacenter": event.datacenter,
        "session": event.session,
        "sequence": event.sequence,
        "kind": type(event.body).__name__,
        "what": describe_body(event.body),
    }


def describe_body(body: RegistryBody) -> str:
    """What an event says."""
    match body:
        case ServiceState(key=key, instances=instances):
            return f"{_name(key)} has {len(instances)}: {_few([_instance(one) for one in instances])}"
        case ServiceDelta(key=key, upserts=upserts, removals=removals, count=count):
            came = f"; with {_few([_instance(one) for one in upserts])}" if upserts else ""
            went = f"; without {_few([f'{one.ip}:{one.port}' for one in removals])}" if removals else ""
            return f"{_name(key)} has {count} now{came}{went}"
        case ServicePart(key=key, instances=instances, part=part, parts=parts):
            return f"{_name(key)}, part {part + 1} of {parts}: {_few([_instance(one) for one in instances])}"
        case ServiceGone(key=key):
            return f"{_name(key)} is gone"
        case ConfigState(key=key):
            return f"config item {key.group}@@{key.data_id}"
        case ConfigGone(key=key):
            return f"config item {key.group}@@{key.data_id} is gone"
        case SyncStarted(reason=reason):
            return f"a keyframe begins: {reason}"
        case SyncCompleted():
            kept = [_name(key) for key in body.kept_services] + ["all services"] * body.keeps_all_services
            kept += [f"config item {key.group}@@{key.data_id}" for key in body.kept_items]
            kept += [f"config items of {group}" for group in body.kept_item_groups]
            return "a keyframe is complete" + (f"; kept as they were: {_few(kept)}" if kept else "")
        case NamespaceGone():
            return "the namespace is gone"
        case Heartbeat(link=link):
            return f"the link is {link}"


def is_about(body: RegistryBody, key: ServiceKey) -> bool:
    """Whether an event tells of that service, or of all of them."""
    match body:
        case ServiceState(key=other) | ServicePart(key=other) | ServiceDelta(key=other) | ServiceGone(key=other):
            return other == key
        case NamespaceGone():
            return True
        case _:
            return False


def _name(key: ServiceKey) -> str:
    return f"{key.group}@@{key.service}"


def _instance(instance: Instance) -> str:
    marks = [
        mark
        for mark, is_set in (("disabled", not instance.enabled), ("unhealthy", not instance.healthy))
        if is_set
    ]
    return f"{instance.ip}:{instance.port}" + (f" ({', '.join(marks)})" if marks else "")


def _few(texts: list[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
