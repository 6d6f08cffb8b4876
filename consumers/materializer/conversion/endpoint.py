"""One instance of Nacos to one endpoint of a ServiceEntry, encoded. Pure."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.endpoint_fields import label_field, port_field, port_fields, text_field
from consumers.materializer.conversion.folded_instance import (
    COPY,
    DROPPED,
    ENABLED,
    HEALTHY,
    LISTABLE,
    NAMED,
    RESPELLED,
    SET_ASIDE,
    BadInstanceError,
    FoldedInstance,
    frame,
    frame_endpoint,
    unframe_endpoint,
)
from consumers.materializer.conversion.instance_address import read_address
from consumers.materializer.conversion.stated_ports import (
    FRAMEWORK_KEYS,
    MAX_PORT,
    NOTHING_STATED,
    Stated,
    ports_of,
    stated,
)
from consumers.settings import PROTOCOL_ALIASES
from schemas.digests import instance_digest, text_of_metadata
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry
from schemas.varint import varint

if TYPE_CHECKING:
    from consumers.materializer.conversion.folded_instance import FurtherPort, PortNames
    from consumers.materializer.conversion.rules import ServiceRules
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Instance

MAX_WEIGHT = 1_000_000
"""100 times Nacos's own greatest weight; Envoy adds weights up in 32 bits."""

_MAX_DESCRIBED = 16_384
_MAX_REMEMBERED = 2048
"""Characters of metadata; longer ones are converted each time, so that a listener can't fill the memory."""
TLS_MODE_LABEL = "security.istio.io/tlsMode"
_COPY_KEY = "sourceClusterId"
"""What nacos-sync writes into the metadata of what it copies."""
_NO_PORTS: tuple[FurtherPort, ...] = ()
_new = tuple.__new__  # a third of what the constructor of a named tuple takes
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9]\Z")
_LABEL_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9])?\Z")
_LABEL_PREFIX = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_PLAIN_IPV4 = re.compile(
    r"(?!127\.|169\.254\.|100\.100\.100\.200\Z|168\.63\.129\.16\Z|192\.0\.0\.192\Z)"
    r"(?:22[0-3]|2[01][0-9]|1[0-9][0-9]|[1-9][0-9]?)(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){3}\Z"
)
"""IPv4 addresses that need no second look: of hosts, and neither local nor a cloud's metadata service."""
_LOCALITY_PART = re.compile(r"[A-Za-z0-9._-]+\Z")


class _Described(NamedTuple):
    """What an instance's metadata and cluster amount to; many instances have the same."""

    labels: bytes
    place: bytes
    """Network and locality."""
    said: Stated
    flags: int
    text: str
    """As the instance's hash takes it in."""


class EndpointConverter:
    """Converts the instances of one datacenter; remembers metadata, of which there is little that differs."""

    def __init__(self, settings: ConversionSettings, datacenter: Datacenter) -> None:
        self._settings = settings
        self._datacenter = datacenter
        known = settings.datacenters.get(datacenter)
        self._locality, self._network = ("", "") if known is None else (known.locality, known.network)
        self._described: dict[tuple[object, ...], _Described] = {}
        self._telling_keys = settings.endpoint_keys | FRAMEWORK_KEYS
        self._aliases = PROTOCOL_ALIASES | {
            name.lower(): protocol.upper() for name, protocol in settings.protocol_aliases.items()
        }
        self._default = settings.protocol
        self._allow_local = settings.allow_local_addresses

    def convert(self, instance: Instance, names: PortNames, rules: ServiceRules | None = None) -> FoldedInstance:
        """The instance as the fold keeps it; `names` is what the service calls its ports.

        Raises:
            BadInstanceError: its port or weight is none. The listener refuses those before they are in the log.
        """
        if rules is not None and rules.touches_instances:
            return self._convert_ruled(instance, names, rules)
        ip, port, cluster, weight, healthy, enabled, _, metadata = instance
        known_as = (cluster, *metadata.items())
        described = self._described.get(known_as)
        if described is None:
            described = self._describe(known_as, cluster, metadata)
        labels, place, said, described_flags, text = described
        if said is NOTHING_STATED:
            protocol, further = self._default, _NO_PORTS
        else:
            protocol, further = ports_of(said, port, self._default)
        address, flags = _address(ip, allow_local=self._allow_local)
        flags |= described_flags
        weight_field, hundredths = _weigh(weight)
        if not weight:
            flags &= ~LISTABLE
        if enabled:
            flags |= ENABLED
        if healthy:
            flags |= HEALTHY
        # As protobuf would write it, in a third of the time: most of this is equal from instance to instance.
        ports = _ports_field(names.main, port)
        if further and names.further:
            ports = _all_ports_field(names, port, further)
        body = b"".join((address, ports, labels, place, weight_field))
        endpoint = frame(body)
        digest = instance_digest(instance, text)
        return _new(
            FoldedInstance, (digest, endpoint, flags, port, protocol, said.logical_port, further, hundredths)
        )

    def _convert_ruled(self, instance: Instance, names: PortNames, rules: ServiceRules) -> FoldedInstance:
        """As rules want it: with other labels, weight, account or vote, or not listed."""
        wanted = rules.of_instance(self._datacenter, instance.metadata)
        labels = {**wanted.labels, **({TLS_MODE_LABEL: wanted.tls_mode} if wanted.tls_mode else {})}
        scale = wanted.weight_scale or 1.0
        made = self.convert(instance._replace(weight=min(instance.weight * scale, MAX_WEIGHT)), names)
        endpoint, flags = made.endpoint, made.flags
        if labels or wanted.service_account:
            entry = WorkloadEntry.FromString(unframe_endpoint(endpoint))
            entry.labels.update(labels)
            entry.service_account = wanted.service_account or ""
            endpoint = frame_endpoint(entry)
        if wanted.drop:
            flags = (flags & ~LISTABLE) | SET_ASIDE | DROPPED
        protocol = wanted.protocol or made.protocol
        digest = instance_digest(instance)
        return made._replace(digest=digest, endpoint=endpoint, flags=flags, protocol=protocol)

    def _describe(self, known_as: tuple[object, ...], cluster: str, metadata: dict[str, str]) -> _Described:
        settings = self._settings
        network, locality, said = self._network, self._locality, NOTHING_STATED
        if not self._telling_keys.isdisjoint(metadata):
            network = _value(metadata, settings.network_key) or network
            locality = _locality(settings, metadata) or locality
            said = stated(metadata, settings.protocol_key, settings.port_key, self._aliases)
        text = text_of_metadata(metadata)
        described = _Described(
            labels=_label_fields(cluster, metadata),
            place=(text_field(0x22, network) if network else b"")
            + (text_field(0x2A, locality) if locality else b""),
            flags=COPY if _COPY_KEY in metadata else 0,
            said=NOTHING_STATED if said == NOTHING_STATED else said,
            text=text,
        )
        if len(text) > _MAX_REMEMBERED:
            return described
        if len(self._described) >= _MAX_DESCRIBED:
            self._described.clear()
        self._described[known_as] = described
        return described


@lru_cache(maxsize=65536)
def _ports_field(port_name: str, port: int) -> bytes:
    if not 1 <= port <= MAX_PORT:
        raise BadInstanceError("port", f"{port} is none")
    return port_field(port_name, port)


@lru_cache(maxsize=4096)
def _all_ports_field(names: PortNames, port: int, further: tuple[FurtherPort, ...]) -> bytes:
    """The ports that the instance has of those that the service names, in the order of their names."""
    numbers = {one.key: one.number for one in further}
    ports = {names.main: port} | {name: numbers[key] for key, name in names.further if key in numbers}
    return port_fields(ports)


@lru_cache(maxsize=4096)
def _weigh(weight: float) -> tuple[bytes, int]:
    """The endpoint's weight, encoded and in hundredths."""
    if not 0 <= weight < math.inf:
        raise BadInstanceError("weight", f"{weight} is none")
    hundredths = round(min(weight, MAX_WEIGHT) * 100)
    hundredths = min(max(hundredths, 1), MAX_WEIGHT)
    return b"\x30" + varint(hundredths), hundredths


def _address(address: str, *, allow_local: bool) -> tuple[bytes, int]:
    """The endpoint's address, and the flags that it brings: no address for what can't be listed."""
    if _PLAIN_IPV4.match(address):  # a twentieth of what ipaddress takes, and nearly all are
        return text_field(0x0A, address), LISTABLE
    read = read_address(address, allow_local=allow_local)
    if read.unlisted is not None:
        return b"", SET_ASIDE
    flags = LISTABLE | (NAMED if read.is_name else 0) | (RESPELLED if read.place != address else 0)
    return text_field(0x0A, read.text), flags


def _label_fields(cluster: str, metadata: dict[str, str]) -> bytes:
    """The metadata that Kubernetes accepts as labels, and the cluster; the rest is dropped. By key."""
    labels = metadata
    if cluster and _LABEL_VALUE.match(cluster):
        labels = {**metadata, "cluster": cluster}
    return b"".join(label_field(key, labels[key]) for key in sorted(labels) if is_label(key, labels[key]))


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
