"""Nacos's `serviceInfo` (the body of pushes and of subscription answers) to instances."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from producers.errors import NacosGarbageError
from producers.nacos.names import is_name
from schemas.digests import instance_digest
from schemas.events import Instance, InstanceKey, ServiceKey, shared_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_METADATA_BYTES = 64 * 1024
"""An instance whose metadata is longer is not believed: it would be repeated in every snapshot."""
_MAX_ADDRESS = 253
"""Characters of an IP address or a host name: DNS has no longer ones."""


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


def parse_service_info(
    value: Any, known_of: Callable[[ServiceKey], Mapping[InstanceKey, Instance]] | None = None
) -> ServiceInfo:
    """The service in a `serviceInfo` object; `known_of` gives the instances known of a service, for `parse_hosts`.

    Raises:
        NacosGarbageError: it names no service, or its hosts are not a list.
    """
    if not isinstance(value, dict):
        raise NacosGarbageError(f"serviceInfo is a {type(value).__name__}")
    key = named_service(value)
    hosts = value.get("hosts")
    if hosts is None:
        hosts = []
    if key is None or not isinstance(hosts, list):
        raise NacosGarbageError(f"serviceInfo without a usable name or hosts: {shown(value)}")
    return ServiceInfo(
        key=key,
        hosts=parse_hosts(hosts, known_of(key) if known_of else {}, portless=key.is_of_consumers),
        protected=value.get("reachProtectionThreshold") is True,
    )


def named_service(info: Any) -> ServiceKey | None:
    """The service that a `serviceInfo` names; None for one that names none that can be used."""
    if not isinstance(info, dict):
        return None
    name, group = info.get("name"), info.get("groupName")
    if isinstance(name, str) and "@@" in name:  # 1.x style: group@@service in one
        group, name = name.split("@@", 1)
    if not isinstance(group, str) or not group:
        group = "DEFAULT_GROUP"
    return ServiceKey(group, name) if is_name(name) and is_name(group) else None


def parse_hosts(
    hosts: Iterable[Any],
    known: Mapping[InstanceKey, Instance] = MappingProxyType({}),
    *,
    portless: bool = False,
) -> Hosts:
    """The instances of a list, in the order of their keys, each key once; the `known` object where it is equal.

    Recognising a known instance costs a fifth of reading it, and nearly all of a push are known.
    Nacos lists an address twice when two clients registered it: the one with the greater hash stands, so
    that every listener decides alike. With `portless` port 0 is one: Dubbo's consumers register so.
    """
    found: dict[InstanceKey, Instance] = {}
    bad = []
    for host in hosts:
        parsed = _recognise(host, known) if known else None
        if parsed is None:
            read = _read(host, 0 if portless else 1)
            if isinstance(read, BadInstance):
                bad.append(read)
                continue
            parsed = read
        key = parsed.key
        other = found.setdefault(key, parsed)
        if other is not parsed and instance_digest(parsed) > instance_digest(other):
            found[key] = parsed
    return Hosts(instances=tuple([found[key] for key in sorted(found)]), bad=tuple(bad))


def _read(host: Any, lowest_port: int) -> Instance | BadInstance:
    """As `parse_instance`; an exception costs this instance."""
    try:
        return parse_instance(host, lowest_port)
    except Exception as error:  # noqa: BLE001 - a server may say anything
        return BadInstance(reason="internal_fault", detail=f"{type(error).__name__}: {error!s:.200}", host=host)


def _recognise(host: Any, known: Mapping[InstanceKey, Instance]) -> Instance | None:
    """The known instance that this is, unchanged; None when it has to be read."""
    try:
        one = known.get((host["ip"], host["port"], host["clusterName"]))  # type: ignore[call-overload]
        if (
            one is not None
            and one.weight == host["weight"]
            and one.healthy is host["healthy"]
            and one.enabled is host["enabled"]
            and one.ephemeral is host.get("ephemeral", one.ephemeral)  # lists of services do not say
            and one.metadata == host["metadata"]
        ):
            return cast("Instance", one)
    except (KeyError, TypeError):  # something is missing or of another type
        pass
    return None


def parse_instance(host: Any, lowest_port: int = 1) -> Instance | BadInstance:
    """One instance of a `hosts` list, or why it can't be used."""
    if not isinstance(host, dict):
        return BadInstance(reason="not_an_object", detail=shown(host), host=host)
    ip, port, weight = host.get("ip"), host.get("port"), host.get("weight", 1.0)
    if not isinstance(ip, str) or not ip.strip() or not ip.isprintable() or len(ip) > _MAX_ADDRESS:
        return _bad("bad_ip", host)
    if not isinstance(port, int) or isinstance(port, bool) or not lowest_port <= port <= 65535:
        return _bad("bad_port", host)
    if not isinstance(weight, int | float) or not 0 <= weight <= sys.float_info.max:
        return _bad("bad_weight", host)
    metadata = host.get("metadata") or {}
    if not isinstance(metadata, dict):
        return _bad("bad_metadata", host)
    cluster = host.get("clusterName") or "DEFAULT"
    try:
        texts = "".join((ip, cluster, *metadata, *metadata.values()))
    except TypeError:
        try:
            metadata = {str(k): "" if v is None else str(v) for k, v in metadata.items()}
            cluster = str(cluster)
        except RecursionError:
            return _bad("bad_metadata", host)
        texts = "".join((ip, cluster, *metadata, *metadata.values()))
    if len(texts) > MAX_METADATA_BYTES:
        return _bad("metadata_too_long", host)
    if not texts.isascii() and not _is_unicode(texts):
        return _bad("bad_text", host)
    return Instance(
        ip=ip.strip(),
        port=shared_port(port),
        cluster=sys.intern(cluster),
        weight=float(weight),
        healthy=host.get("healthy") is True,
        enabled=host.get("enabled") is not False,
        ephemeral=host.get("ephemeral") is not False,
        metadata=metadata,
    )


def _bad(reason: str, host: dict[str, Any]) -> BadInstance:
    ip, port, weight = host.get("ip"), host.get("port"), host.get("weight")
    detail = f"{shown(ip, 100)}:{shown(port, 20)} weight {shown(weight, 40)}"
    return BadInstance(reason=reason, detail=detail, host=host)


def shown(value: Any, limit: int = 200) -> str:
    """A value of Nacos's JSON in words, cut; it may be nested too deep to be written down."""
    try:
        return str(value)[:limit]
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deep"
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__} that is too long"


def _is_unicode(text: str) -> bool:
    """JSON may hold half a surrogate pair, which neither Avro nor protobuf can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
