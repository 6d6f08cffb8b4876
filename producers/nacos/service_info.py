"""Nacos's `serviceInfo` (the body of pushes and of subscription answers) to instances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from producers.errors import NacosGarbageError
from schemas.digests import instance_digest
from schemas.events import Instance, InstanceKey, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_METADATA_BYTES = 64 * 1024
"""An instance whose metadata is longer is not believed: it would be repeated in every snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadInstance:
    """An instance that cannot be used, and why; `host` is what Nacos said."""

    reason: str
    detail: str
    host: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """A list of instances as a server stated them; `bad` ones are left out of `instances`."""

    instances: tuple[Instance, ...]
    bad: tuple[BadInstance, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInfo:
    """A service as its subscribers are told: without disabled instances.

    `protected` means that too few are healthy and all are said to be.
    """

    key: ServiceKey
    hosts: Hosts
    protected: bool


def parse_service_info(value: Any) -> ServiceInfo:
    """The service in a `serviceInfo` object.

    Raises:
        NacosGarbageError: it names no service, or its hosts are not a list.
    """
    if not isinstance(value, dict):
        raise NacosGarbageError(f"serviceInfo is a {type(value).__name__}")
    name, group = value.get("name"), value.get("groupName")
    hosts = value.get("hosts") or []
    if not isinstance(name, str) or not name or not isinstance(hosts, list):
        raise NacosGarbageError(f"serviceInfo without a name or hosts: {str(value)[:200]}")
    if "@@" in name:  # 1.x style: group@@service in one
        group, name = name.split("@@", 1)
    if not isinstance(group, str) or not group:
        group = "DEFAULT_GROUP"
    if not _is_utf8(name, group):
        raise NacosGarbageError(f"a service whose name is no text: {name!r:.200}")
    return ServiceInfo(
        key=ServiceKey(group, name),
        hosts=parse_hosts(hosts),
        protected=value.get("reachProtectionThreshold") is True,
    )


def parse_hosts(hosts: Iterable[Any]) -> Hosts:
    """The instances of a list, in the order of their keys, each key once.

    Nacos lists an address twice when two clients registered it: the one with the greater hash stands, so
    that every listener decides alike.
    """
    found: dict[InstanceKey, Instance] = {}
    bad = []
    for host in hosts:
        parsed = parse_instance(host)
        if isinstance(parsed, BadInstance):
            bad.append(parsed)
            continue
        key = parsed.key
        other = found.get(key)
        if other is None or instance_digest(parsed) > instance_digest(other):
            found[key] = parsed
    return Hosts(instances=tuple([found[key] for key in sorted(found)]), bad=tuple(bad))


def parse_instance(host: Any) -> Instance | BadInstance:
    """One instance of a `hosts` list, or why it can't be used."""
    if not isinstance(host, dict):
        return BadInstance(reason="not_an_object", detail=str(host)[:200], host=host)
    ip, port, weight = host.get("ip"), host.get("port"), host.get("weight", 1.0)
    where = f"{ip!s:.100}:{port!s:.20}"
    if not isinstance(ip, str) or not ip.strip() or not ip.isprintable():
        return BadInstance(reason="bad_ip", detail=where, host=host)
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        return BadInstance(reason="bad_port", detail=where, host=host)
    if not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
        return BadInstance(reason="bad_weight", detail=f"{where} weight {weight!s:.40}", host=host)
    raw = host.get("metadata") or {}
    if not isinstance(raw, dict):
        return BadInstance(reason="bad_metadata", detail=where, host=host)
    metadata = {str(k): "" if v is None else str(v) for k, v in raw.items()}
    if sum(len(k) + len(v) for k, v in metadata.items()) > MAX_METADATA_BYTES:
        return BadInstance(reason="metadata_too_long", detail=where, host=host)
    cluster = str(host.get("clusterName") or "DEFAULT")
    if not _is_utf8(ip, cluster, *metadata, *metadata.values()):
        return BadInstance(reason="bad_text", detail=where, host=host)
    return Instance(
        ip=ip.strip(),
        port=port,
        cluster=cluster,
        weight=float(weight),
        healthy=host.get("healthy") is True,
        enabled=host.get("enabled") is not False,
        ephemeral=host.get("ephemeral") is not False,
        metadata=metadata,
    )


def _is_utf8(*texts: str) -> bool:
    """JSON may smuggle in half a surrogate pair, which neither Avro nor protobuf can write."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        return False
    return True
