"""One instance of Nacos to one endpoint of a ServiceEntry, encoded."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from consumers.settings import ISTIO_PROTOCOLS
from schemas.digests import instance_digest
from schemas.events import shared_port
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Instance

ENABLED = 1
HEALTHY = 2
LISTABLE = 4
"""Istio can list it: weight above 0, an address that istiod accepts."""
NAMED = 8
"""The address is a host name, so the service is resolved by DNS."""

MAX_WEIGHT = 1_000_000
"""100 times Nacos's own greatest weight; Envoy adds weights up in 32 bits."""

_ENDPOINTS_TAG = b"\x32"  # ServiceEntry.endpoints: field 6, length-delimited
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9]\Z")
_LABEL_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(?:\.|\Z)){4}(?<!\.)\Z")
_LOCALITY_PART = re.compile(r"[A-Za-z0-9._-]+\Z")


class FoldedInstance(NamedTuple):
    """What a fold keeps of an instance: its hash, its encoded endpoint, and what the service's head needs."""

    digest: int
    endpoint: bytes
    """Field 6 of a ServiceEntry, tag and length included: endpoints are listed by joining these."""
    flags: int
    port: int
    protocol: str
    """Upper case, as Istio names it; empty where the metadata names none."""
    logical_port: int
    """0 where the metadata names none."""


def fold_instance(
    settings: ConversionSettings, datacenter: Datacenter, instance: Instance, port_name: str
) -> FoldedInstance:
    """The instance as the fold keeps it; `port_name` is the name of the service's one logical port."""
    metadata = instance.metadata
    is_name = _address_kind(instance.ip)
    weight = round(instance.weight * 100)
    flags = (
        (ENABLED if instance.enabled else 0)
        | (HEALTHY if instance.healthy else 0)
        | (LISTABLE if instance.weight > 0 and is_name is not None else 0)
        | (NAMED if is_name else 0)
    )
    facts = _datacenter(settings, datacenter)
    network, locality, protocol, logical_port = facts.network, facts.locality, "", 0
    if not settings.endpoint_keys.isdisjoint(metadata):
        network = _value(metadata, settings.network_key) or network
        locality = _locality(settings, metadata) or locality
        protocol, logical_port = _protocol(settings, metadata), _logical_port(settings, metadata)
    # As protobuf would write it, in a third of the time: most of this is equal from instance to instance.
    body = b"".join(
        (
            _text_field(0x0A, instance.ip),
            _ports_field(port_name, instance.port),
            *_label_fields(instance),
            _text_field(0x22, network) if network else b"",
            _text_field(0x2A, locality) if locality else b"",
            _weight_field(min(max(weight, 1), MAX_WEIGHT)),
        )
    )
    return FoldedInstance(
        instance_digest(instance),
        _ENDPOINTS_TAG + _length(body) + body,
        flags,
        shared_port(instance.port),
        protocol,
        logical_port,
    )


def frame_endpoint(entry: WorkloadEntry) -> bytes:
    """The endpoint as a ServiceEntry's field; maps are written in the order of their keys."""
    body = entry.SerializeToString(deterministic=True)
    return _ENDPOINTS_TAG + _varint(len(body)) + body


def rename_port(endpoint: bytes, port_name: str) -> bytes:
    """The same endpoint under another name of the logical port."""
    entry = WorkloadEntry.FromString(unframe_endpoint(endpoint))
    port = next(iter(entry.ports.values()))
    entry.ports.clear()
    entry.ports[port_name] = port
    return frame_endpoint(entry)


def unframe_endpoint(endpoint: bytes) -> bytes:
    """The encoded WorkloadEntry in a framed endpoint."""
    at = 1
    while endpoint[at] & 0x80:
        at += 1
    return endpoint[at + 1 :]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_VARINTS = tuple(_varint(number) for number in range(1024))


def _length(data: bytes) -> bytes:
    size = len(data)
    return _VARINTS[size] if size < len(_VARINTS) else _varint(size)


def _text_field(tag: int, text: str) -> bytes:
    data = text.encode()
    return bytes((tag,)) + _length(data) + data


@lru_cache(maxsize=65536)
def _ports_field(port_name: str, port: int) -> bytes:
    entry = _text_field(0x0A, port_name) + b"\x10" + _varint(port)
    return b"\x12" + _length(entry) + entry


@lru_cache(maxsize=65536)
def _label_field(key: str, value: str) -> bytes | None:
    """The label's entry; None when Kubernetes would not take it."""
    if not is_label(key, value):
        return None
    entry = _text_field(0x0A, key) + _text_field(0x12, value)
    return b"\x1a" + _length(entry) + entry


@lru_cache(maxsize=4096)
def _weight_field(weight: int) -> bytes:
    return b"\x30" + _varint(weight)


@lru_cache(maxsize=65536)
def _address_kind(address: str) -> bool | None:
    """True for a host name, False for an IP address, None for what istiod would reject."""
    if _IPV4.match(address):  # a twentieth of what ipaddress takes, and nearly all are
        return False
    try:
        ipaddress.ip_address(address)
    except ValueError:
        # A name of digits and dots only is an IP address gone wrong.
        is_name = _HOST_NAME.match(address) is not None and not address.replace(".", "").isdigit()
        return True if is_name else None
    return False


def _label_fields(instance: Instance) -> list[bytes]:
    """The metadata that Kubernetes accepts as labels, and the cluster; the rest is dropped. By key."""
    labels: dict[str, str] = instance.metadata
    if instance.cluster and _LABEL_VALUE.match(instance.cluster):
        labels = {**labels, "cluster": instance.cluster}
    fields = (_label_field(key, labels[key]) for key in sorted(labels))
    return [field for field in fields if field is not None]


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


def _datacenter(settings: ConversionSettings, datacenter: Datacenter) -> _DatacenterFacts:
    known = settings.datacenters.get(datacenter)
    return _UNKNOWN_DATACENTER if known is None else _DatacenterFacts(known.locality, known.network)


class _DatacenterFacts(NamedTuple):
    locality: str
    network: str


_UNKNOWN_DATACENTER = _DatacenterFacts("", "")


def _protocol(settings: ConversionSettings, metadata: dict[str, str]) -> str:
    named = metadata.get(settings.protocol_key, "")
    if not named:
        return ""
    protocol = settings.protocol_aliases.get(named.lower(), named).upper()
    return protocol if protocol in ISTIO_PROTOCOLS else ""


def _logical_port(settings: ConversionSettings, metadata: dict[str, str]) -> int:
    named = metadata.get(settings.port_key, "")
    return int(named) if named.isascii() and named.isdigit() and 1 <= int(named[:6]) <= 65535 else 0
