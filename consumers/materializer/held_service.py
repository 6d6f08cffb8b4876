"""A service with the endpoints that its guard keeps, and the ServiceEntry that it is in all datacenters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.folded_instance import rename_ports
from consumers.materializer.conversion.head import elect, head_of
from consumers.materializer.conversion.service_entry import encode_part, encode_record, is_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumers.materializer.conversion.folded_instance import FoldedInstance, PortNames
    from consumers.materializer.conversion.head import Head
    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.folded_service import FoldedService
    from consumers.materializer.guard import Lost
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, InstanceKey, Namespace
    from schemas.records import Part, ResourceRecord


class HeldService(NamedTuple):
    """A service in one datacenter, and the endpoints that its guard keeps."""

    service: FoldedService
    held: dict[InstanceKey, Lost]

    @property
    def is_empty(self) -> bool:
        """Whether nothing tells which port it has."""
        return not self.held and not self.service.has_usable

    def instances(self) -> Iterator[FoldedInstance]:
        """Those that decide the service's port, and those held."""
        yield from self.service.usable()
        for lost in self.held.values():
            yield lost.instance

    def listed(self) -> Iterator[FoldedInstance]:
        """Those that Pilots get, the held ones among them."""
        yield from self.service.listed()
        for lost in self.held.values():
            yield lost.instance

    def encode(self, datacenter: Datacenter, names: PortNames, *, keep: bool) -> tuple[Part, bool]:
        """Its endpoints, and whether an address is a name; with `keep` they stay in the service until it changes.

        That spares the other datacenters' when one changes. Of a single one it would only hold every byte twice.
        """
        service = self.service
        service.use_names(names)
        if service.part is None or self.held:
            listed = service.listed()
            endpoints = [instance.endpoint for instance in listed]
            for lost in self.held.values():
                endpoint = lost.instance.endpoint
                endpoints.append(endpoint if lost.names == names else rename_ports(lost.instance, names))
            part = encode_part(datacenter, endpoints)
            named = (service.may_be_named and is_named(listed)) or is_named(
                lost.instance for lost in self.held.values()
            )
            if self.held or not keep:
                return part, named
            service.part, service.part_is_named = part, named
        return service.part, service.part_is_named


def service_entry(
    _: ConversionSettings,
    namespace: Namespace,
    name: ServiceName,
    services: Mapping[Datacenter, HeldService],
) -> ResourceRecord:
    """The ServiceEntry of a service, with a part for each datacenter in which it is."""
    head = _elected(services)
    parts = []
    named = False
    for datacenter, one in services.items():
        part, part_is_named = one.encode(datacenter, head.names, keep=len(services) > 1)
        parts.append(part)
        named = named or part_is_named
    return encode_record(namespace, name, head, tuple(parts), named=named)


def _elected(services: Mapping[Datacenter, HeldService]) -> Head:
    """The head that the instances vote for which Pilots get; where they get none, that of the others."""
    agreed = {None if one.held else one.service.ports for one in services.values()}
    if len(agreed) == 1 and (ports := agreed.pop()) is not None:
        return head_of(ports.logical_port or ports.port, ports.protocol, ports.further)
    voters = [instance for one in services.values() for instance in one.listed()]
    return elect(voters or [instance for one in services.values() for instance in one.instances()])
