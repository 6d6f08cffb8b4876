"""Namespaces that stand published since before a fold began, and have not been compared with it yet. Pure.

A fold that begins on a log that is not whole (see `recovery`) knows nothing of a datacenter until its next
keyframe. What stands published with endpoints of that datacenter is not replaced before: an incomplete fold would
take them away. Such a namespace *awaits* the datacenter until that states it, says it is gone, or is excluded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from consumers.materializer.decisions import excluded
from consumers.materializer.guard import LONGEST_STEP_US
from schemas.events import Datacenter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumers.materializer.fold_state import DatacenterState, NamespaceState, PartitionState
    from consumers.materializer.folded_item import ResourceId
    from consumers.materializer.view import PublishedNamespace
    from schemas.events import Namespace

_NOBODY: frozenset[Datacenter] = frozenset()


@dataclass(slots=True)
class _Standing:
    """What stands published of a namespace: the datacenters in it, and the resources that belong to none.

    `observed_at` is the time of the last event in it, microseconds (UTC); `gone` the datacenters that said since
    that they no longer have the namespace.
    """

    observed_at: int
    linked: frozenset[Datacenter]
    datacenters: frozenset[Datacenter]
    stated: frozenset[ResourceId]
    gone: set[Datacenter] = field(default_factory=set)


@dataclass(slots=True)
class StandingNamespaces:
    """The namespaces of a partition that are still to be compared; `unsettled` are topics whose log has a hole.

    A datacenter read from an unsettled topic counts again once its events reach the time of what stands published
    without a hole: its older keyframes do not tell what was lost behind them.
    """

    unsettled: set[str] = field(default_factory=set)
    _standing: dict[Namespace, _Standing] = field(default_factory=dict)

    @classmethod
    def of(cls, published: Mapping[Namespace, PublishedNamespace]) -> StandingNamespaces:
        """Those of a partition whose snapshots were read back."""
        return cls(_standing={name: found for name, one in published.items() if (found := _standing_of(one))})

    def __bool__(self) -> bool:
        """Whether any is left."""
        return bool(self._standing)

    def __iter__(self) -> Iterator[Namespace]:
        """Their names; they may be taken out meanwhile."""
        return iter(list(self._standing))

    def __contains__(self, namespace: Namespace) -> bool:
        """Whether the namespace is still to be compared."""
        return namespace in self._standing

    def is_gone(self, namespace: Namespace) -> bool:
        """Whether a datacenter said that it no longer has the namespace."""
        return bool(self._standing[namespace].gone)

    def note_gone(self, namespace: Namespace, datacenter: Datacenter) -> None:
        """The datacenter no longer has the namespace."""
        if namespace in self._standing:
            self._standing[namespace].gone.add(datacenter)

    def settle(self, namespace: Namespace) -> None:
        """The namespace is compared with the fold, and published from it from now on."""
        self._standing.pop(namespace, None)

    def awaited(self, namespace: Namespace, state: PartitionState) -> frozenset[Datacenter]:
        """The datacenters that what stands published names, and that the fold can't state yet."""
        one = self._standing.get(namespace)
        if one is None:
            return _NOBODY
        here = state.of_namespace(namespace)
        known = {name for name, there in here.items() if self._is_known(state.datacenters[name], there, one)}
        left = known | one.gone | excluded(state.decisions.get(namespace, ()))
        awaited = (one.datacenters & one.linked) - left
        # A resource without endpoints does not say which datacenter's config item states it.
        if one.stated and not one.stated <= {resource for name in known for resource in here[name].claims}:
            awaited |= one.linked - left
        return awaited

    def all_awaited(self, state: PartitionState) -> dict[Namespace, frozenset[Datacenter]]:
        """The namespaces that await datacenters. Where none is left, the topics count as settled."""
        found = {name: awaited for name in self._standing if (awaited := self.awaited(name, state))}
        if not found:
            self.unsettled.clear()
        return found

    def _is_known(self, datacenter: DatacenterState, here: NamespaceState, one: _Standing) -> bool:
        if not here.complete:
            return False
        if datacenter.topic not in self.unsettled:
            return True
        return not here.suspect and datacenter.guard.observed_at >= one.observed_at


def _standing_of(published: PublishedNamespace) -> _Standing | None:
    manifest = published.manifest
    if manifest is None or not published.versions:
        return None  # nothing that could be taken away
    return _Standing(
        observed_at=_time_of(manifest.observed_at, published.written_at),
        linked=frozenset(map(Datacenter, manifest.links)),
        datacenters=frozenset().union(*published.datacenters.values()),
        stated=frozenset(name for name in published.versions if not published.datacenters.get(name)),
    )


def _time_of(observed_at: int, written_at: int) -> int:
    """When the last event was observed; no event is much younger than the manifest, whatever it says."""
    return min(observed_at, written_at + LONGEST_STEP_US) if written_at > 0 else observed_at
