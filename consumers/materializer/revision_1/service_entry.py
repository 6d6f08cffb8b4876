"""A service's instances in all datacenters to one ServiceEntry, as revision 1 did it. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from consumers.materializer.conversion import SERVICE_ENTRIES, SERVICE_ENTRY_TYPE_URL
from consumers.materializer.conversion.folded_instance import NAMED, PortNames, frame, rename_ports
from consumers.materializer.conversion.service_entry import encode_part, record_of
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry, ServicePort

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance
    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.held_service import HeldService
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, Namespace
    from schemas.records import Part, ResourceRecord

_T = TypeVar("_T", int, str)


class _LogicalPort(NamedTuple):
    """The one port of a ServiceEntry; every endpoint maps it to its own."""

    number: int
    protocol: str


def service_entry(
    settings: ConversionSettings,
    namespace: Namespace,
    name: ServiceName,
    services: Mapping[Datacenter, HeldService],
) -> ResourceRecord:
    """The ServiceEntry of a service, with a part for each datacenter in which it is."""
    agreed = {None if one.held else one.service.ports for one in services.values()}
    if len(agreed) == 1 and (ports := agreed.pop()) is not None:
        port = _LogicalPort(ports.logical_port or ports.port, ports.protocol or settings.protocol)
    else:
        port = _logical_port(settings, (instance for one in services.values() for instance in one.instances()))
    names = PortNames(port.protocol.lower())
    parts = []
    named = False
    for datacenter, one in services.items():
        part, part_is_named = _encode(one, datacenter, names, keep=len(services) > 1)
        parts.append(part)
        named = named or part_is_named
    head = ServiceEntry(
        hosts=[name.host],
        ports=[ServicePort(number=port.number, protocol=port.protocol, name=names.main)],
        location=ServiceEntry.MESH_INTERNAL,
        resolution=ServiceEntry.DNS if named else ServiceEntry.STATIC,
    ).SerializeToString(deterministic=True)
    return record_of(namespace, SERVICE_ENTRIES, name.resource, SERVICE_ENTRY_TYPE_URL, {}, {}, head, tuple(parts))


def _logical_port(settings: ConversionSettings, instances: Iterable[FoldedInstance]) -> _LogicalPort:
    """Number and protocol as metadata or settings say, else the most frequent port; ties: the smallest."""
    known = list(instances)
    named_ports = [instance.logical_port for instance in known if instance.logical_port]
    return _LogicalPort(
        number=_most_frequent(named_ports or [instance.port for instance in known], 0),
        protocol=_most_frequent([i.protocol for i in known if i.protocol], settings.protocol),
    )


def _most_frequent(values: list[_T], default: _T) -> _T:
    if not values:
        return default
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def _encode(one: HeldService, datacenter: Datacenter, names: PortNames, *, keep: bool) -> tuple[Part, bool]:
    """The endpoints in one datacenter, and whether an address is a name; with `keep` they stay in the service."""
    service = one.service
    service.use_names(names, _rename_ports)
    if service.part is None or one.held:
        listed = service.listed()
        endpoints = [instance.endpoint for instance in listed]
        for lost in one.held.values():
            endpoint = lost.instance.endpoint
            endpoints.append(endpoint if lost.names == names else _rename_ports(lost.instance, names))
        part = encode_part(datacenter, endpoints)
        named = service.may_be_named and _is_named(listed)
        named = named or _is_named(lost.instance for lost in one.held.values())
        if one.held or not keep:
            return part, named
        service.part, service.part_is_named = part, named
    return service.part, service.part_is_named


def _rename_ports(instance: FoldedInstance, names: PortNames) -> bytes:
    """As protobuf writes maps, which is not in every case the order in which an endpoint is made first."""
    return rename_ports(instance, names, lambda entry: frame(entry.SerializeToString(deterministic=True)))


def _is_named(instances: Iterable[FoldedInstance]) -> bool:
    return any(instance.flags & NAMED for instance in instances)
