"""A service in one datacenter as the fold keeps it: instances, and which of them Pilots get. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.folded_instance import (
    ENABLED,
    HEALTHY,
    LISTABLE,
    NAMED,
    RESPELLED,
    SET_ASIDE,
    UNUSABLE,
    place_of,
    rename_ports,
)
from consumers.materializer.conversion.head import elect, head_of, ruled
from schemas.digests import SERVICE_DIGEST_MODULUS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from consumers.materializer.conversion.folded_instance import FoldedInstance, FurtherPort, PortNames
    from consumers.materializer.conversion.head import Head
    from consumers.materializer.conversion.rules import ServiceRules
    from schemas.events import InstanceKey
    from schemas.records import Part


class Transition(NamedTuple):
    """What a change did to the endpoints that Pilots get: those lost, as they were, those new, how many more.

    `is_seen` says whether Pilots would see any of it: what Nacos says may change without that. With
    `may_change_votes` the service's instances may vote for other ports.
    """

    is_seen: bool
    lost: Mapping[InstanceKey, FoldedInstance]
    listed: Sequence[InstanceKey]
    difference: int
    may_change_votes: bool = False


_RARE = NAMED | UNUSABLE | RESPELLED | SET_ASIDE
_UNSEEN, _SEEN = Transition(False, {}, (), 0), Transition(True, {}, (), 0)
_OTHER_PORTS = Transition(True, {}, (), 0, may_change_votes=True)


class Ports(NamedTuple):
    """What an instance says of its service's port; see `FoldedInstance`."""

    port: int
    protocol: str
    logical_port: int
    further: tuple[FurtherPort, ...]


@dataclass(slots=True)
class FoldedService:
    """A service in one datacenter; `part` is its encoded endpoints, None when they have to be encoded.

    With `joins_repeated` an endpoint that is stated twice is one. `rules` are those that match the service.
    `ports` is what all instances say of the port; None where they may differ. `since` is when the first of the
    instances came that an endpoint can be made of, in microseconds (UTC) of the log; None while there is none.
    Then `last` are the last of them.

    `voted` is what `vote` gave last, for the guard of heads.

    The counts are kept with each change, so that one instance's change costs one instance's work. A change that
    raises leaves the service as it was.
    """

    names: PortNames
    joins_repeated: bool = True
    rules: ServiceRules | None = None
    protect_threshold: float = 0.0
    digest: int = 0
    instances: dict[InstanceKey, FoldedInstance] = field(default_factory=dict)
    part: Part | None = None
    part_is_named: bool = False
    ports: Ports | None = None
    since: int | None = None
    voted: Head | None = None
    last: Mapping[InstanceKey, FoldedInstance] | None = None
    _unusable: int = 0
    _named: int = 0
    _enabled: int = 0
    _healthy: int = 0
    _enabled_listable: int = 0
    _healthy_listable: int = 0
    _enabled_weight: int = 0
    _healthy_weight: int = 0
    _respelled: int = 0
    _set_aside: int = 0
    _clusters: dict[str, int] = field(default_factory=dict)

    @property
    def protected(self) -> bool:
        """Nacos's rule: with so small a share of healthy ones, all enabled ones are given out.

        With a threshold of 0 that is when none is healthy.
        """
        return self._is_protected(self.protect_threshold)

    def _is_protected(self, threshold: float) -> bool:
        return self._enabled > 0 and self._healthy / self._enabled <= threshold

    @property
    def has_usable(self) -> bool:
        """Whether there is an instance that an endpoint could be made of: without one nothing tells the port."""
        return len(self.instances) > self._unusable

    def usable(self) -> Iterable[FoldedInstance]:
        """The instances that say something of the service's port."""
        instances = self.instances.values()
        return [one for one in instances if not one.flags & UNUSABLE] if self._unusable else instances

    @property
    def count(self) -> int:
        """How many endpoints Pilots get; one that is stated of two clusters counts once."""
        return self._count(protected=self.protected)

    def _count(self, *, protected: bool) -> int:
        listable = self._enabled_listable if protected else self._healthy_listable
        if not self.may_repeat:
            return listable
        return len(
            {place_of(key, one) for key, one in self.instances.items() if _is_listed(one, protected=protected)}
        )

    @property
    def weight(self) -> int:
        """The sum of the weights of the instances that Pilots get, in hundredths."""
        return self._enabled_weight if self.protected else self._healthy_weight

    @property
    def clusters(self) -> Collection[str]:
        """Nacos's clusters that the instances are of."""
        return self._clusters

    @property
    def may_repeat(self) -> bool:
        """Whether two instances may be at the same address and port: of one cluster, spelled alike, none are."""
        return self.joins_repeated and (len(self._clusters) > 1 or self._respelled > 0)

    @property
    def has_respelled(self) -> bool:
        """Whether the key of an instance does not tell its address."""
        return self._respelled > 0

    @property
    def has_set_aside(self) -> bool:
        """Whether there is an instance whose address is not listed."""
        return self._set_aside > 0

    def listed(self) -> list[FoldedInstance]:
        """The instances that Pilots get."""
        if self._healthy_listable == len(self.instances):
            return list(self.instances.values())
        protected = self.protected
        return [instance for instance in self.instances.values() if _is_listed(instance, protected=protected)]

    def listed_by_key(self) -> list[tuple[InstanceKey, FoldedInstance]]:
        """The instances that Pilots get, with their keys."""
        protected = self.protected
        return [(key, one) for key, one in self.instances.items() if _is_listed(one, protected=protected)]

    def vote(self) -> Head | None:
        """The head that the instances vote for which Pilots get, else that of the others; as rules want it.

        None where there is no instance that could have an endpoint.
        """
        if not self.has_usable:
            return None
        if self.ports is not None:
            port, protocol, logical_port, further = self.ports
            head = head_of(logical_port or port, protocol, further)
        else:
            head = elect(self.listed() or list(self.usable()))
        return head if self.rules is None else ruled(head, self.rules.of_service)

    def replace(
        self, changes: Mapping[InstanceKey, FoldedInstance | None], protect_threshold: float
    ) -> Transition:
        """Puts each instance in the place of the one with its key; None removes. The digest follows."""
        instances, digest = self.instances, self.digest
        is_seen, is_moved, has_other_ports = False, protect_threshold != self.protect_threshold, False
        heavier: list[tuple[int, int]] = []
        for key, now in changes.items():
            former = instances.get(key)
            if former is None or now is None:
                digest += (0 if now is None else now.digest) - (0 if former is None else former.digest)
                is_moved = True
                is_seen = is_seen or former is not now
            else:
                digest += now.digest - former.digest
                if former[2:7] != now[2:7]:
                    is_seen = has_other_ports = True
                    is_moved = is_moved or former.flags != now.flags
                elif former.endpoint != now.endpoint:
                    is_seen = True
                if former.weight != now.weight:
                    heavier.append((now.flags, now.weight - former.weight))
        if is_moved:
            changed = [(key, instances.get(key), now) for key, now in changes.items()]
            try:
                transition = self._move(changed, changes, protect_threshold, is_seen=is_seen)
            except Exception:
                self._undo(changed)
                raise
        else:
            if has_other_ports or len(instances) == 1:
                for now in changes.values():
                    self._note_ports(now)  # type: ignore[arg-type]
            instances.update(changes)  # type: ignore[arg-type]  # there is no removal among them
            for flags, weight in heavier:
                self._add_weight(flags, weight)
            transition = _OTHER_PORTS if has_other_ports else _SEEN if is_seen else _UNSEEN
        self.digest, self.protect_threshold = digest % SERVICE_DIGEST_MODULUS, protect_threshold
        return transition

    def _move(
        self,
        changed: list[tuple[InstanceKey, FoldedInstance | None, FoldedInstance | None]],
        changes: Container[InstanceKey],
        protect_threshold: float,
        *,
        is_seen: bool,
    ) -> Transition:
        """As `replace`, where instances come or go, or are given out from now on or no longer."""
        instances, was, count = self.instances, self.protected, self.count
        for key, former, now in changed:
            if former is not None:
                self._add(key, former, -1)
                if now is None:
                    del instances[key]
            if now is not None:
                self._add(key, now, 1)
                instances[key] = now
                self._note_ports(now)
        if len(instances) == self._unusable:
            went = {key: one for key, one, _ in changed if one is not None and not one.flags & UNUSABLE}
            self.last = went or self.last
        protected = self._is_protected(protect_threshold)
        if protected != was:
            changed = changed + [(key, one, one) for key, one in instances.items() if key not in changes]
        lost: dict[InstanceKey, FoldedInstance] = {}
        listed = []
        for key, former, now in changed:
            before = former is not None and _is_listed(former, protected=was)
            after = now is not None and _is_listed(now, protected=protected)
            if before and not after and former is not None:
                lost[key] = former
            elif after and not before:
                listed.append(key)
        difference = self._count(protected=protected) - count
        return Transition(is_seen, lost, listed, difference, may_change_votes=True)

    def _undo(self, changed: list[tuple[InstanceKey, FoldedInstance | None, FoldedInstance | None]]) -> None:
        """Puts the instances back that a change had begun to replace, and counts anew."""
        for key, former, _ in changed:
            if former is None:
                self.instances.pop(key, None)
            else:
                self.instances[key] = former
        self.ports = None
        self._unusable = self._named = self._enabled = self._healthy = 0
        self._enabled_listable = self._healthy_listable = self._enabled_weight = self._healthy_weight = 0
        self._respelled = self._set_aside = 0
        self._clusters = {}
        for key, instance in self.instances.items():
            self._add(key, instance, 1)

    @property
    def may_be_named(self) -> bool:
        """Whether the address of any instance is a host name."""
        return self._named > 0

    def use_names(
        self, names: PortNames, rename: Callable[[FoldedInstance, PortNames], bytes] = rename_ports
    ) -> None:
        """Renames the ports in every endpoint."""
        if names == self.names:
            return
        renamed = {
            key: instance._replace(endpoint=rename(instance, names)) for key, instance in self.instances.items()
        }
        self.instances, self.names, self.part = renamed, names, None

    def _note_ports(self, instance: FoldedInstance) -> None:
        """Keeps the agreed port. Once two instances disagree there is none, until one instance is left."""
        ports = Ports(*instance[3:7])
        if instance.flags & UNUSABLE:
            self.ports = None
        elif len(self.instances) == 1:
            self.ports = ports
        elif ports != self.ports:
            self.ports = None

    def _add(self, key: InstanceKey, instance: FoldedInstance, sign: int) -> None:
        flags = instance.flags
        clusters = self._clusters
        if count := clusters.get(key.cluster, 0) + sign:
            clusters[key.cluster] = count
        else:
            del clusters[key.cluster]
        if flags & _RARE:
            self._named += sign if flags & NAMED else 0
            self._unusable += sign if flags & UNUSABLE else 0
            self._respelled += sign if flags & RESPELLED else 0
            self._set_aside += sign if flags & SET_ASIDE else 0
        if not flags & ENABLED:
            return
        listable = sign if flags & LISTABLE else 0
        self._enabled += sign
        self._enabled_listable += listable
        if flags & HEALTHY:
            self._healthy += sign
            self._healthy_listable += listable
        self._add_weight(flags, instance.weight * sign)

    def _add_weight(self, flags: int, weight: int) -> None:
        if flags & ENABLED and flags & LISTABLE:
            self._enabled_weight += weight
            if flags & HEALTHY:
                self._healthy_weight += weight


def _is_listed(instance: FoldedInstance, *, protected: bool) -> bool:
    needed = ENABLED | LISTABLE if protected else ENABLED | HEALTHY | LISTABLE
    return instance.flags & needed == needed
