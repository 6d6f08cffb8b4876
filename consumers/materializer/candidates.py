"""Which of a service's instances become endpoints, where that takes a closer look. Pure.

An address and port that is stated twice, of two clusters or two datacenters, is one endpoint: what is listed
outweighs what a guard only holds, live outweighs dead, the original a copy of nacos-sync; then the first of the
datacenters by name, then the smaller key. A ServiceEntry holds IP addresses or host names: the kind that more
of them are of, IP addresses of equally many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.folded_instance import (
    COPY,
    DROPPED,
    HEALTHY,
    NAMED,
    SET_ASIDE,
    place_of,
)
from consumers.materializer.conversion.instance_address import Unlisted, read_address
from consumers.rule_settings import HostNames, Resolution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from consumers.materializer.conversion.folded_instance import FoldedInstance, PortNames
    from consumers.materializer.held_service import HeldService
    from consumers.rule_settings import RuleSet
    from schemas.events import Datacenter, InstanceKey


_OF_BOTH = frozenset({Resolution.DNS, Resolution.MIXED})
"""With which IP addresses are listed beside host names."""


class Candidate(NamedTuple):
    """An instance that would be an endpoint, or that a guard holds; `names` are what its endpoint calls ports."""

    datacenter: Datacenter
    key: InstanceKey
    instance: FoldedInstance
    names: PortNames
    is_held: bool

    def rank(self) -> tuple[bool, bool, bool, str, InstanceKey]:
        """Of those at one place the least is the endpoint; ranks differ, whatever endpoints call their ports."""
        flags = self.instance.flags
        return self.is_held, not flags & HEALTHY, bool(flags & COPY), self.datacenter, self.key


class SetAside(NamedTuple):
    """An instance that is not listed although Nacos gives it out."""

    datacenter: Datacenter
    key: InstanceKey
    why: Unlisted


class Chosen(NamedTuple):
    """The endpoints, whether their addresses are host names, and what was set aside."""

    endpoints: list[Candidate]
    is_named: bool
    set_aside: list[SetAside]


def choose(services: Mapping[Datacenter, HeldService], wanted: RuleSet) -> Chosen:
    """The endpoints of a service in all datacenters, and what is not among them; `wanted` is what rules set."""
    by_place: dict[tuple[str, int], Candidate] = {}
    left_out: list[tuple[Candidate, Unlisted]] = []
    for one in _candidates(services):
        place = place_of(one.key, one.instance)
        other = by_place.setdefault(place, one)
        if other is one:
            continue
        better, worse = (one, other) if one.rank() < other.rank() else (other, one)
        by_place[place] = better
        if not worse.is_held:
            left_out.append((worse, Unlisted.REPEATED))
    found = list(by_place.values())
    if wanted.host_names is HostNames.DROP:
        left_out += [(one, Unlisted.DROPPED) for one in found if one.instance.flags & NAMED and not one.is_held]
        found = [one for one in found if not one.instance.flags & NAMED]
    is_named = is_resolved([one.instance for one in found], wanted)
    endpoints = []
    for one in found:
        if bool(one.instance.flags & NAMED) is is_named or (is_named and wanted.resolution in _OF_BOTH):
            endpoints.append(one)
        elif not one.is_held:
            left_out.append((one, Unlisted.RESOLUTION))
    return Chosen(endpoints, is_named, [SetAside(one.datacenter, one.key, why) for one, why in left_out])


def is_resolved(instances: Sequence[FoldedInstance], wanted: RuleSet) -> bool:
    """Whether the entry is resolved by DNS: as rules set it, else as most addresses are."""
    named = sum(1 for one in instances if one.flags & NAMED)
    match wanted.resolution:
        case Resolution.STATIC:
            return False
        case Resolution.DNS:
            return True
        case Resolution.MIXED:
            return named > 0
        case None:
            return named * 2 > len(instances)


def refused(services: Mapping[Datacenter, HeldService]) -> Iterator[SetAside]:
    """The instances whose addresses are not listed, and why."""
    for datacenter, (service, _, _) in services.items():
        if not service.has_set_aside:
            continue
        for key, instance in service.instances.items():
            if instance.flags & SET_ASIDE:
                why = None if instance.flags & DROPPED else read_address(key.ip, allow_local=False).unlisted
                yield SetAside(datacenter, key, why or Unlisted.DROPPED)


def are_apart(services: Iterable[HeldService]) -> bool:
    """Whether no address and port is stated twice, as far as keys tell; where they don't, False."""
    seen: list[HeldService] = []
    for one in services:
        if one.held or one.service.may_repeat or one.service.has_respelled:
            return False
        for other in seen:
            few, many = sorted((one.service, other.service), key=lambda service: len(service.instances))
            clusters, known = list(many.clusters), many.instances
            for ip, port, _ in few.instances:
                for cluster in clusters:
                    if (ip, port, cluster) in known:
                        return False
        seen.append(one)
    return True


def _candidates(services: Mapping[Datacenter, HeldService]) -> Iterator[Candidate]:
    for datacenter, (service, held, _) in services.items():
        for key, instance in service.listed_by_key():
            yield Candidate(datacenter, key, instance, service.names, is_held=False)
        for key, lost in held.items():
            yield Candidate(datacenter, key, lost.instance, lost.names, is_held=True)
