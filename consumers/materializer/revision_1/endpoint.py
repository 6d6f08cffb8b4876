"""One instance of Nacos to one endpoint of a ServiceEntry, as revision 1 encoded it. Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.endpoint_fields import length_of
from consumers.materializer.conversion.folded_instance import (
    ENABLED,
    HEALTHY,
    LISTABLE,
    NAMED,
    BadInstanceError,
    FoldedInstance,
    frame,
)
from schemas.digests import instance_digest, text_of_metadata
from schemas.varint import varint

if TYPE_CHECKING:
    from consumers.materializer.conversion.folded_instance import PortNames
    from consumers.materializer.conversion.rules import ServiceRules
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Instance

_PROTOCOLS = frozenset({"HTTP", "HTTPS", "GRPC", "HTTP2", "MONGO", "TCP", "TLS"})
_MAX_WEIGHT = 1_000_000

_MAX_DESCRIBED = 16_384
_MAX_REMEMBERED = 2048
"""Characters of metadata; longer ones are converted each time, so that a listener can't fill the memory."""
_MAX_PORT = 65535
_new = tuple.__new__  # a third of what the constructor of a named tuple takes
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9]\Z")
_LABEL_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.|\Z)){4}(?<!\.)\Z")
_LOCALITY_PART = re.compile(r"[A-Za-z0-9._-]+\Z")


class _Described(NamedTuple):
    """What an instance's metadata and cluster amount to; many instances have the same."""

    labels: bytes
    place: bytes
    """Network and locality."""
    protocol: str
    logical_port: int
    text: str
    """As the instance's hash takes it in."""


class EndpointConverter:
    """Converts the instances of one datacenter; remembers metadata, of which there is little that differs."""

    def __init__(self, settings: ConversionSettings, datacenter: Datacenter) -> None:
        self._settings = settings
        known = settings.datacenters.get(datacenter)
        self._locality, self._network = ("", "") if known is None else (known.locality, known.network)
        self._described: dict[tuple[object, ...], _Described] = {}

    def convert(self, instance: Instance, names: PortNames, __: ServiceRules | None = None) -> FoldedInstance:
        """The instance as the fold keeps it; `names` is what the service calls its ports.

        Raises:
            BadInstanceError: its port or weight is none. The listener refuses those before they are in the log.
        """
        ip, port, cluster, weight, healthy, enabled, _, metadata = instance
        known_as = (cluster, *metadata.items())
        described = self._described.get(known_as)
        if described is None:
            described = self._describe(known_as, cluster, metadata)
        labels, place, protocol, logical_port, text = described
        address, flags = _address(ip)
        weight_field, has_weight = _weigh(weight)
        if not has_weight:
            flags &= ~LISTABLE
        if enabled:
            flags |= ENABLED
        if healthy:
            flags |= HEALTHY
        # As protobuf would write it, in a third of the time: most of this is equal from instance to instance.
        body = b"".join((address, _ports_field(names.main, port), labels, place, weight_field))
        endpoint = frame(body)
        digest = instance_digest(instance, text)
        return _new(FoldedInstance, (digest, endpoint, flags, port, protocol, logical_port, (), 0))

    def _describe(self, known_as: tuple[object, ...], cluster: str, metadata: dict[str, str]) -> _Described:
        settings = self._settings
        network, locality, protocol, logical_port = self._network, self._locality, "", 0
        if not settings.endpoint_keys.isdisjoint(metadata):
            network = _value(metadata, settings.network_key) or network
            locality = _locality(settings, metadata) or locality
            protocol = _protocol(settings, metadata)
            logical_port = _logical_port(metadata.get(settings.port_key, ""))
        text = text_of_metadata(metadata)
        described = _Described(
            labels=_label_fields(cluster, metadata),
            place=(_text_field(0x22, network) if network else b"")
            + (_text_field(0x2A, locality) if locality else b""),
            protocol=protocol,
            logical_port=logical_port,
            text=text,
        )
        if len(text) > _MAX_REMEMBERED:
            return described
        if len(self._described) >= _MAX_DESCRIBED:
            self._described.clear()
        self._described[known_as] = described
        return described


def _text_field(tag: int, text: str) -> bytes:
    data = text.encode()
    size = len(data)
    return (bytes((tag, size)) if size < 0x80 else bytes((tag,)) + varint(size)) + data


@lru_cache(maxsize=65536)
def _ports_field(port_name: str, port: int) -> bytes:
    if not 1 <= port <= _MAX_PORT:
        raise BadInstanceError("port", f"{port} is none")
    entry = _text_field(0x0A, port_name) + b"\x10" + varint(port)
    return b"\x12" + length_of(entry) + entry


def _label_field(key: str, value: str) -> bytes | None:
    """The label's entry; None when Kubernetes would not take it."""
    if not is_label(key, value):
        return None
    entry = _text_field(0x0A, key) + _text_field(0x12, value)
    return b"\x1a" + length_of(entry) + entry


@lru_cache(maxsize=4096)
def _weigh(weight: float) -> tuple[bytes, bool]:
    """The endpoint's weight, and whether it has any."""
    if not 0 <= weight < math.inf:
        raise BadInstanceError("weight", f"{weight} is none")
    hundredths = round(min(weight, _MAX_WEIGHT) * 100)
    return b"\x30" + varint(min(max(hundredths, 1), _MAX_WEIGHT)), weight > 0


def _address(address: str) -> tuple[bytes, int]:
    """The endpoint's address, and the flags that it brings: neither for what istiod would reject."""
    if _IPV4.match(address):  # a twentieth of what ipaddress takes, and nearly all are
        return _text_field(0x0A, address), LISTABLE
    try:
        ipaddress.ip_address(address)
    except ValueError:
        # A name of digits and dots only is an IP address gone wrong.
        is_name = _HOST_NAME.match(address) is not None and not address.replace(".", "").isdigit()
        return (_text_field(0x0A, address), LISTABLE | NAMED) if is_name else (b"", 0)
    return _text_field(0x0A, address), LISTABLE


def _label_fields(cluster: str, metadata: dict[str, str]) -> bytes:
    """The metadata that Kubernetes accepts as labels, and the cluster; the rest is dropped. By key."""
    labels = metadata
    if cluster and _LABEL_VALUE.match(cluster):
        labels = {**metadata, "cluster": cluster}
    fields = (_label_field(key, labels[key]) for key in sorted(labels))
    return b"".join(field for field in fields if field is not None)


def is_label(key: str, value: str) -> bool:
    """Whether Kubernetes takes it as a label."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or not _LABEL_PREFIX.match(prefix)):
        return False
    return _LABEL_NAME.match(name) is not None and _LABEL_VALUE.match(value) is not None


def _locality(settings: ConversionSettings, metadata: dict[str, str]) -> str:
    region = _value(metadata, settings.region_key)
    zone = _value(metadata, settings.zone_key) if region else ""
    return f"{region}/{zone}" if zone else region


def _value(metadata: dict[str, str], key: str) -> str:
    value = metadata.get(key, "")
    return value if value and _LOCALITY_PART.match(value) else ""


def _protocol(settings: ConversionSettings, metadata: dict[str, str]) -> str:
    named = metadata.get(settings.protocol_key, "")
    if not named:
        return ""
    protocol = settings.protocol_aliases.get(named.lower(), named).upper()
    return protocol if protocol in _PROTOCOLS else ""


def _logical_port(named: str) -> int:
    """The port that metadata names, or 0; some beyond 65535 were read, with zeros before them."""
    if not named.isascii() or not named.isdigit() or not 1 <= int(named[:6]) <= _MAX_PORT:
        return 0
    return int(named)
