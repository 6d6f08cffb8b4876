"""What a fold keeps of an instance, in every revision of the conversion. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.endpoint_fields import encode, length_of
from schemas.digests import instance_digest
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.settings import ConversionSettings
    from schemas.events import Instance, InstanceKey

ENABLED = 1
HEALTHY = 2
LISTABLE = 4
"""Istio can list it: weight above 0, an address that istiod accepts."""
NAMED = 8
"""The address is a host name, so the service is resolved by DNS."""
UNUSABLE = 16
"""No endpoint can be made of it: it is never listed, and its port does not count."""

SET_ASIDE = 32
"""Nacos would give it out, but Istio would refuse its address, or must not know it: see `Unlisted`."""
RESPELLED = 64
"""Its address is not written as Nacos has it, so its key does not tell who else is at the same place."""
DROPPED = 256
"""A rule drops it."""
COPY = 128
"""Another Nacos has it, from which nacos-sync copied it."""

_ENDPOINTS_TAG = b"\x32"  # ServiceEntry.endpoints: field 6, length-delimited


class FurtherPort(NamedTuple):
    """A port that an instance has besides its own; `key` is equal where instances of a service mean the same."""

    key: str
    protocol: str
    number: int


class FoldedInstance(NamedTuple):
    """What a fold keeps of an instance: its hash, its encoded endpoint, and what the service's head needs."""

    digest: int
    endpoint: bytes
    """Field 6 of a ServiceEntry, tag and length included: endpoints are listed by joining these."""
    flags: int
    port: int
    protocol: str
    """As Istio names it. The first revision leaves it empty where the metadata names none."""
    logical_port: int
    """0 where the metadata names none."""
    further: tuple[FurtherPort, ...] = ()
    weight: int = 0
    """In hundredths, as the endpoint has it; 0 in the first revision."""


class PortNames(NamedTuple):
    """What a service's endpoints call its ports: the main one, and by their keys the further ones."""

    main: str
    further: tuple[tuple[str, str], ...] = ()


class BadInstanceError(Exception):
    """An instance that no endpoint can be made of: the field that is wrong, and why."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")


def unusable(instance: Instance) -> FoldedInstance:
    """An instance that no endpoint can be made of, as the fold keeps it: it counts in the service's digest."""
    return FoldedInstance(instance_digest(instance), b"", UNUSABLE, 0, "", 0)


def default_names(settings: ConversionSettings) -> PortNames:
    """What the ports of a service are called that has no head yet."""
    return PortNames(port_name(settings.protocol))


def port_name(protocol: str) -> str:
    """What a port of this protocol is called: in lower case, without what Istio takes in no name."""
    return protocol.lower().replace("_", "-")


def frame(body: bytes) -> bytes:
    """An encoded WorkloadEntry as a ServiceEntry's field."""
    return _ENDPOINTS_TAG + length_of(body) + body


def frame_endpoint(entry: WorkloadEntry) -> bytes:
    """The endpoint as a ServiceEntry's field."""
    return frame(encode(entry))


def rename_ports(
    instance: FoldedInstance, names: PortNames, write: Callable[[WorkloadEntry], bytes] = frame_endpoint
) -> bytes:
    """The instance's endpoint under other names of the ports; that of an unusable instance stays empty."""
    if not instance.endpoint:
        return instance.endpoint
    entry = WorkloadEntry.FromString(unframe_endpoint(instance.endpoint))
    entry.ports.clear()
    entry.ports[names.main] = instance.port
    if instance.further and names.further:
        numbers = {port.key: port.number for port in instance.further}
        for key, name in names.further:
            if key in numbers:
                entry.ports[name] = numbers[key]
    return write(entry)


def place_of(key: InstanceKey, instance: FoldedInstance) -> tuple[str, int]:
    """Address and port, equal for all spellings and clusters."""
    if not instance.flags & RESPELLED:
        return key.ip, key.port
    address = WorkloadEntry.FromString(unframe_endpoint(instance.endpoint)).address
    return address.removesuffix(".").lower(), key.port


def unframe_endpoint(endpoint: bytes) -> bytes:
    """The encoded WorkloadEntry in a framed endpoint."""
    at = 1
    while endpoint[at] & 0x80:
        at += 1
    return endpoint[at + 1 :]
