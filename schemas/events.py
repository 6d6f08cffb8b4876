"""The events of `shiplog.registry.events`: facts about a Nacos namespace, as its listener saw them.

`to_avro` and `from_avro` are each other's inverse; the Avro side is plain dicts in fastavro's form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from sys import intern
from typing import Any, NamedTuple, NewType

from schemas.errors import UndecodableRecordError

Datacenter = NewType("Datacenter", str)
Namespace = NewType("Namespace", str)
"""Nacos's namespace id; the public one is always `public`."""
SessionId = NewType("SessionId", str)

_RECORD = "io.shiplog.v1."


class InstanceKey(NamedTuple):
    """What tells the instances of a service apart."""

    ip: str
    port: int
    cluster: str


_new_key = tuple.__new__
_PORTS = tuple(range(65536))


def shared_port(port: int) -> int:
    """The number, the same object each time: keys are kept a million times."""
    return _PORTS[port] if 0 <= port < 65536 else port


class ServiceKey(NamedTuple):
    """What tells the services of a namespace apart."""

    group: str
    service: str

    @property
    def is_of_consumers(self) -> bool:
        """Whether it is Dubbo's list of an interface's consumers, or of rules for them.

        Its instances serve nothing, at port 0.
        """
        return self.service.startswith(("consumers:", "routers:", "configurators:"))


class ConfigKey(NamedTuple):
    """What tells the config items of a namespace apart."""

    group: str
    data_id: str


class Link(StrEnum):
    """The state of a listener's link to Nacos."""

    LIVE = "LIVE"
    DEGRADED = "DEGRADED"
    BLIND = "BLIND"


class Instance(NamedTuple):
    """One instance of a service, as Nacos knows it. Its metadata may be shared: nobody changes it."""

    ip: str
    port: int
    cluster: str
    weight: float
    healthy: bool
    enabled: bool
    ephemeral: bool
    metadata: dict[str, str]

    @property
    def key(self) -> InstanceKey:
        """What tells it apart within its service."""
        return _new_key(InstanceKey, self[:3])


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStarted:
    """A keyframe begins: the services and config items of the namespace will be stated."""

    reason: str


class ServiceState(NamedTuple):
    """All instances of a service."""

    key: ServiceKey
    instances: tuple[Instance, ...]
    protect_threshold: float = 0.0


class ServicePart(NamedTuple):
    """Some instances of a service whose state needs several records: `part` of `parts`, counted from 0.

    The parts of one state follow each other in a session. The last one makes it whole, as a ServiceState would.
    """

    key: ServiceKey
    instances: tuple[Instance, ...]
    protect_threshold: float
    part: int
    parts: int


class ServiceDelta(NamedTuple):
    """What changed in a service; `count` and `digest` are of all its instances afterwards."""

    key: ServiceKey
    upserts: tuple[Instance, ...]
    removals: tuple[InstanceKey, ...]
    count: int  # type: ignore[assignment]  # hides the method of tuples, which nobody wants of it
    digest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceGone:
    """Nacos no longer lists the service."""

    key: ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigState:
    """A config item and its text."""

    key: ConfigKey
    content: str
    content_type: str
    md5: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGone:
    """The config item was deleted."""

    key: ConfigKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncCompleted:
    """The keyframe is whole; the counts are of what it stated. The rest is gone, except for what it keeps.

    Kept as they were: `kept_services` and `kept_items`, which exist and could not be stated; the items of
    `kept_item_groups` (`*` and `?` stand for any characters), of which nothing is known; with `keeps_all_services`
    every service.
    """

    services: int
    config_items: int
    kept_services: tuple[ServiceKey, ...] = ()
    keeps_all_services: bool = False
    kept_items: tuple[ConfigKey, ...] = ()
    kept_item_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceGone:
    """Nacos no longer lists the namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Time passes; the state of the listener's link to Nacos."""

    link: Link
    detail: str


RegistryBody = (
    SyncStarted
    | ServiceState
    | ServicePart
    | ServiceDelta
    | ServiceGone
    | ConfigState
    | ConfigGone
    | SyncCompleted
    | NamespaceGone
    | Heartbeat
)


class RegistryEvent(NamedTuple):
    """A fact and where it stands: session and sequence order it, `observed_at` is in microseconds (UTC).

    Of two sessions of a datacenter and partition, the one with the higher epoch is the newer tenure.
    """

    datacenter: Datacenter
    namespace: Namespace
    session: SessionId
    epoch: int
    sequence: int
    observed_at: int
    body: RegistryBody


def to_avro(event: RegistryEvent) -> dict[str, Any]:
    """The event as fastavro writes it."""
    body = event.body
    return {
        "datacenter": event.datacenter,
        "namespace": event.namespace,
        "session": event.session,
        "epoch": event.epoch,
        "sequence": event.sequence,
        "observed_at": event.observed_at,
        "body": (_RECORD + type(body).__name__, _body_to_avro(body)),
    }


def from_avro(value: dict[str, Any]) -> RegistryEvent:
    """The event that fastavro read (records of a union as name and dict)."""
    name, body = value["body"]
    return RegistryEvent(
        datacenter=value["datacenter"],
        namespace=value["namespace"],
        session=value["session"],
        epoch=value["epoch"],
        sequence=value["sequence"],
        observed_at=value["observed_at"],
        body=_body_from_avro(name, body),
    )


def _instance_to_avro(instance: Instance) -> dict[str, Any]:
    return {
        "ip": instance.ip,
        "port": instance.port,
        "cluster": instance.cluster,
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "ephemeral": instance.ephemeral,
        "metadata": instance.metadata,
    }


def _body_to_avro(body: RegistryBody) -> dict[str, Any]:
    match body:
        case ServiceDelta(key=key):
            return {
                "group": key.group,
                "service": key.service,
                "upserts": [_instance_to_avro(i) for i in body.upserts],
                "removals": [r._asdict() for r in body.removals],
                "count": body.count,
                "digest": body.digest,
            }
        case ServiceState(key=key):
            return {
                "group": key.group,
                "service": key.service,
                "protect_threshold": body.protect_threshold,
                "instances": [_instance_to_avro(i) for i in body.instances],
            }
        case ServicePart(key=key):
            return {
                "group": key.group,
                "service": key.service,
                "protect_threshold": body.protect_threshold,
                "part": body.part,
                "parts": body.parts,
                "instances": [_instance_to_avro(i) for i in body.instances],
            }
        case ServiceGone(key=key):
            return {"group": key.group, "service": key.service}
        case ConfigState(key=item):
            return {
                "group": item.group,
                "data_id": item.data_id,
                "content": body.content,
                "content_type": body.content_type,
                "md5": body.md5,
            }
        case ConfigGone(key=item):
            return {"group": item.group, "data_id": item.data_id}
        case SyncStarted(reason=reason):
            return {"reason": reason}
        case SyncCompleted():
            return {
                "services": body.services,
                "config_items": body.config_items,
                "kept_services": [key._asdict() for key in body.kept_services],
                "keeps_all_services": body.keeps_all_services,
                "kept_items": [key._asdict() for key in body.kept_items],
                "kept_item_groups": list(body.kept_item_groups),
            }
        case NamespaceGone():
            return {}
        case Heartbeat(link=link, detail=detail):
            return {"link": link.value, "detail": detail}


def _instance_from_avro(value: dict[str, Any]) -> Instance:
    return Instance(**value | {"port": shared_port(value["port"]), "cluster": intern(value["cluster"])})


def _body_from_avro(name: str, v: dict[str, Any]) -> RegistryBody:
    match name.removeprefix(_RECORD):
        case "ServiceDelta":
            return ServiceDelta(
                key=ServiceKey(v["group"], v["service"]),
                upserts=tuple(_instance_from_avro(i) for i in v["upserts"]),
                removals=tuple(InstanceKey(**r) for r in v["removals"]),
                count=v["count"],
                digest=v["digest"],
            )
        case "ServiceState":
            return ServiceState(
                key=ServiceKey(v["group"], v["service"]),
                instances=tuple(_instance_from_avro(i) for i in v["instances"]),
                protect_threshold=v["protect_threshold"],
            )
        case "ServicePart":
            return ServicePart(
                key=ServiceKey(v["group"], v["service"]),
                instances=tuple(_instance_from_avro(i) for i in v["instances"]),
                protect_threshold=v["protect_threshold"],
                part=v["part"],
                parts=v["parts"],
            )
        case "Heartbeat":
            return Heartbeat(link=Link(v["link"]), detail=v["detail"])
        case "ServiceGone":
            return ServiceGone(key=ServiceKey(v["group"], v["service"]))
        case "ConfigState":
            return ConfigState(
                key=ConfigKey(v["group"], v["data_id"]),
                content=v["content"],
                content_type=v["content_type"],
                md5=v["md5"],
            )
        case "ConfigGone":
            return ConfigGone(key=ConfigKey(v["group"], v["data_id"]))
        case "SyncStarted":
            return SyncStarted(reason=v["reason"])
        case "SyncCompleted":
            return SyncCompleted(
                services=v["services"],
                config_items=v["config_items"],
                kept_services=tuple(ServiceKey(**key) for key in v["kept_services"]),
                keeps_all_services=v["keeps_all_services"],
                kept_items=tuple(ConfigKey(**key) for key in v["kept_items"]),
                kept_item_groups=tuple(v["kept_item_groups"]),
            )
        case "NamespaceGone":
            return NamespaceGone()
        case unknown:
            raise UndecodableRecordError("unknown_event", f"no event is called {unknown}")
