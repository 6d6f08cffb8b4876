"""A service with the endpoints that its guard keeps, and the ServiceEntry that it is in all datacenters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.candidates import are_apart, choose, is_resolved, refused
from consumers.materializer.conversion.folded_instance import rename_ports
from consumers.materializer.conversion.head import as_vote, elect, head_of, ruled
from consumers.materializer.conversion.service_entry import encode_part, encode_record, traits_of
from consumers.materializer.conversion.weights import MAX_SUM, divide, divisor_of
from consumers.rule_settings import Resolution, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumers.materializer.candidates import Candidate, SetAside
    from consumers.materializer.conversion.folded_instance import FoldedInstance, PortNames
    from consumers.materializer.conversion.head import Head
    from consumers.materializer.conversion.names import ServiceName
    from consumers.materializer.folded_service import FoldedService
    from consumers.materializer.guard import Lost
    from consumers.settings import ConversionSettings
    from schemas.events import Datacenter, InstanceKey, Namespace
    from schemas.records import Part, ResourceRecord


_NOTHING = RuleSet()


class HeldService(NamedTuple):
    """A service in one datacenter, and the endpoints and the head that its guard keeps."""

    service: FoldedService
    held: dict[InstanceKey, Lost]
    kept: Head | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing tells which port it has, or a rule drops it."""
        return self.wanted.drop is True or (not self.held and not self.service.has_usable)

    @property
    def wanted(self) -> RuleSet:
        """What rules set for the whole service."""
        return _NOTHING if self.service.rules is None else self.service.rules.of_service

    def instances(self) -> Iterator[FoldedInstance]:
        """Those that an endpoint could be made of, and those held."""
        yield from self.service.usable()
        for lost in self.held.values():
            yield lost.instance


class Joined(NamedTuple):
    """A service's record, and the instances that are not in it although Nacos gives them out.

    `has_stated_addresses`: a rule says which virtual addresses it has, or that it has none.
    """

    record: ResourceRecord
    set_aside: tuple[SetAside, ...] = ()
    has_stated_addresses: bool = False


def service_entry(
    _: ConversionSettings,
    namespace: Namespace,
    name: ServiceName,
    services: Mapping[Datacenter, HeldService],
) -> Joined:
    """The ServiceEntry of a service, with a part for each datacenter in which it is."""
    set_aside = list(refused(services))
    wanted = next(iter(services.values())).wanted
    if _is_plain(services):
        head, is_named, parts = _join(services, wanted)
    else:
        chosen = choose(services, wanted)
        set_aside += chosen.set_aside
        voters = _voters(services, chosen.endpoints) or _usable(services)
        head = ruled(elect(voters), wanted)
        is_named = chosen.is_named if chosen.endpoints else is_resolved(_usable(services), wanted)
        by_datacenter: dict[Datacenter, list[bytes]] = {datacenter: [] for datacenter in services}
        for one in services.values():
            one.service.use_names(head.names)
        for datacenter, key, instance, names, is_held in chosen.endpoints:
            if not is_held:
                endpoint = services[datacenter].service.instances[key].endpoint
            else:
                endpoint = instance.endpoint if names == head.names else rename_ports(instance, head.names)
            by_datacenter[datacenter].append(endpoint)
        divisor = divisor_of(sum(one.instance.weight for one in chosen.endpoints), len(chosen.endpoints))
        parts = [
            encode_part(datacenter, divide(endpoints, divisor) if divisor > 1 else endpoints)
            for datacenter, endpoints in by_datacenter.items()
        ]
    record = encode_record(namespace, name, head, tuple(parts), traits_of(wanted), named=is_named)
    return Joined(record, tuple(sorted(set_aside)), wanted.addresses is not None)


def _is_plain(services: Mapping[Datacenter, HeldService]) -> bool:
    """Whether each listed instance is an endpoint as it is: nearly always, and far cheaper to join."""
    weight = 0
    for service, held, kept in services.values():
        if held or kept is not None or service.may_be_named:
            return False
        weight += service.weight
    if weight > MAX_SUM // 2:
        return False
    return are_apart(services.values())


def _join(services: Mapping[Datacenter, HeldService], wanted: RuleSet) -> tuple[Head, bool, list[Part]]:
    """Of plain services; with several datacenters their parts stay in them until they change.

    That spares the other datacenters' when one changes. Of a single one it would only hold every byte twice.
    """
    agreed = {one.service.ports for one in services.values()}
    if len(agreed) == 1 and (ports := agreed.pop()) is not None:
        head = head_of(ports.logical_port or ports.port, ports.protocol, ports.further)
    else:
        listed = [instance for one in services.values() for instance in one.service.listed()]
        head = elect(listed or _usable(services))
    head, is_named = ruled(head, wanted), wanted.resolution is Resolution.DNS
    return head, is_named, [_part(one.service, name, head.names, len(services)) for name, one in services.items()]


def _part(service: FoldedService, datacenter: Datacenter, names: PortNames, datacenters: int) -> Part:
    service.use_names(names)
    if service.part is not None:
        return service.part
    part = encode_part(datacenter, [instance.endpoint for instance in service.listed()])
    if datacenters > 1:
        service.part = part
    return part


def _voters(services: Mapping[Datacenter, HeldService], endpoints: list[Candidate]) -> list[FoldedInstance]:
    """The endpoints' votes; those of a datacenter whose head is kept are all for that one."""
    if all(one.kept is None for one in services.values()):
        return [one.instance for one in endpoints]
    voters = []
    for datacenter, one in services.items():
        here = [candidate.instance for candidate in endpoints if candidate.datacenter == datacenter]
        voters += here if one.kept is None else [as_vote(one.kept)] * max(1, len(here))
    return voters


def _usable(services: Mapping[Datacenter, HeldService]) -> list[FoldedInstance]:
    return [instance for one in services.values() for instance in one.instances()]
