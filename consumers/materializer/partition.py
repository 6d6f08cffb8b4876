"""One partition being materialized: its fold, its namespaces' views, its place in the log.

No Kafka here: records come in as values, and what to write comes out as values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from consumers import metrics
from consumers.materializer.fold import Fold, Outcome
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.materializer.guard import Ending, Hold
    from consumers.materializer.view import PublishedNamespace, Update
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import Datacenter, Namespace, RegistryEvent

_log = structlog.get_logger()


@dataclass(slots=True)
class MaterializedPartition:
    """The state behind one partition number; `next_offsets` is by event topic.

    While it recovers, events are folded without publishing: `recovered` compares with what stands published.
    """

    number: int
    settings: ConversionSettings
    guard: GuardSettings
    published: dict[Namespace, PublishedNamespace]
    live_from: dict[str, int]
    next_offsets: dict[str, int] = field(default_factory=dict)
    views: dict[Namespace, NamespaceView] = field(default_factory=dict)
    recovering: bool = True
    _fold: Fold = field(init=False)

    def __post_init__(self) -> None:
        """Begins with an empty fold."""
        self._fold = Fold(self.settings, self.guard)

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in an event."""
        self.next_offsets[topic] = offset + 1
        outcome = self._fold.apply(topic, offset, event)
        metrics.EVENTS.labels(outcome).inc()
        if outcome in {Outcome.MISMATCH, Outcome.INCOMPLETE_KEYFRAME}:
            _log.warning(
                "an event does not fit what was folded before",
                outcome=outcome,
                namespace=event.namespace,
                datacenter=event.datacenter,
                topic=topic,
                offset=offset,
            )
        return outcome

    def has_caught_up(self) -> bool:
        """Whether the fold is where the last transaction left it."""
        return all(self.next_offsets.get(topic, 0) >= offset for topic, offset in self.live_from.items())

    def recovered(self) -> Iterator[tuple[NamespaceView, Update]]:
        """Ends the recovery: compares every namespace with what stands published, and yields what differs.

        Where nothing differs the published version stands, so that a restart makes no new one.
        """
        self.recovering = False
        self.take_ended_holds()  # counted when they ended for the first time
        state = self._fold.state
        for namespace, changes in list(state.changes.items()):
            changes.dirty = set()
            view = self._view(namespace)
            if not state.is_complete(namespace) and view.manifest is None:
                continue
            if view.manifest is not None and not state.of_namespace(namespace):
                continue
            update = view.update_all(state, "recovery")
            if update is None:
                continue
            if not update.records and view.manifest is not None:
                changes.version = dict(view.manifest.version)
                changes.observed_at = view.manifest.observed_at
                continue
            metrics.RECOVERY_DIFFERENCES.inc()
            yield view, update

    def updates(self) -> Iterator[tuple[NamespaceView, Update]]:
        """What the events since the last call changed, namespace by namespace."""
        state = self._fold.state
        for namespace, changes in state.changes.items():
            if not changes.dirty:
                continue
            dirty, changes.dirty = changes.dirty, set()
            view = self._view(namespace)
            update = view.update(state, dirty, "events")
            if update is not None:
                yield view, update

    def recovery_offset(self, topic: str) -> int:
        """Where a fold of this topic must begin to arrive at the present state."""
        return recovery_offset(self._fold.state, self.next_offsets.get(topic, 0))

    @property
    def suspect(self) -> int:
        """How many namespaces have a hole in their events, counted in each datacenter."""
        datacenters = self._fold.state.datacenters.values()
        return sum(ns.suspect for datacenter in datacenters for ns in datacenter.namespaces.values())

    def holds(self) -> list[tuple[Datacenter, Hold]]:
        """The guard's open holds."""
        return [
            (name, hold)
            for name, datacenter in self._fold.state.datacenters.items()
            for hold in datacenter.guard.holds.values()
        ]

    def take_ended_holds(self) -> list[tuple[Datacenter, Hold, Ending]]:
        """The holds that ended since the last call: datacenter, hold, why."""
        found = []
        for name, datacenter in self._fold.state.datacenters.items():
            found += [(name, hold, ending) for hold, ending in datacenter.guard.ended]
            datacenter.guard.ended.clear()
        return found

    def status(self) -> dict[str, object]:
        """The partition as an operator sees it."""
        return {
            "recovering": self.recovering,
            "next_offsets": dict(self.next_offsets),
            "namespaces": {
                namespace: {
                    "version": view.manifest and view.manifest.version,
                    "digest": view.manifest and view.manifest.digest,
                    "resources": len(view.versions),
                }
                for namespace, view in self.views.items()
            },
            "holds": [hold.describe(name) for name, hold in self.holds()],
            "datacenters": {
                name: {
                    "link": datacenter.link,
                    "session": datacenter.session,
                    "epoch": datacenter.epoch,
                    "suspect": [ns for ns, state in datacenter.namespaces.items() if state.suspect],
                }
                for name, datacenter in self._fold.state.datacenters.items()
            },
        }

    def _view(self, namespace: Namespace) -> NamespaceView:
        view = self.views.get(namespace)
        if view is None:
            view = self.views[namespace] = NamespaceView(namespace, self.settings)
            standing = self.published.pop(namespace, None)
            if standing is not None and standing.manifest is not None:
                view.adopt(standing.versions, standing.manifest)
        return view
