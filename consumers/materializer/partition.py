"""One partition being materialized: its fold, its namespaces' views, its place in the log.

No Kafka here: records come in as values, and what to write comes out as values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import structlog

from consumers import metrics
from consumers.errors import NotCarriedOutError
from consumers.materializer.conversion import converter_name
from consumers.materializer.decisions import MAX_DECISIONS_BYTES, releases_of, size_of, without_releases
from consumers.materializer.fold import Fold, Outcome
from consumers.materializer.fold_state import NamespaceChanges, Touched
from consumers.materializer.guard import Scope
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.standing import StandingNamespaces
from consumers.materializer.status import datacenter_statuses, namespace_status
from consumers.materializer.view import NamespaceView, Occasion
from schemas.control import Decision, ExcludeDatacenter, Pin, Release
from schemas.events import Heartbeat, NamespaceGone, SyncCompleted
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from consumers.materializer.faults import Fault
    from consumers.materializer.guard import Ending, Hold
    from consumers.materializer.head_guard import HeadHold
    from consumers.materializer.recovery import Beginning
    from consumers.materializer.status import NamespaceStatus
    from consumers.materializer.view import PublishedNamespace, Update
    from consumers.settings import ConversionSettings, ExpectedSettings, GuardSettings
    from schemas.control import ControlEvent
    from schemas.events import Datacenter, Namespace, RegistryEvent
    from schemas.records import Manifest, ResourceRecord

_log = structlog.get_logger()

_EVENTS = {outcome: metrics.EVENTS.labels(outcome) for outcome in Outcome}
_APPLIED = Outcome.APPLIED


class Progress(NamedTuple):
    """Of a recovery, in offsets."""

    done: int
    left: int


@dataclass(slots=True)
class MaterializedPartition:
    """The state behind one partition number; offsets are by topic.

    `next_offsets` is where reading goes on. Up to `live_from` it recovers: events are folded without publishing,
    and `recovered` compares with what stands published. Records from `first_read` on were not read before. Where
    `control_void_from` is set, published decisions from that offset on are of a former control topic.
    """

    number: int
    settings: ConversionSettings
    guard: GuardSettings
    expected: ExpectedSettings
    published: dict[Namespace, PublishedNamespace]
    control_void_from: int | None = None
    live_from: dict[str, int] = field(default_factory=dict)
    first_read: dict[str, int] = field(default_factory=dict)
    next_offsets: dict[str, int] = field(default_factory=dict)
    first_offsets: dict[str, int] = field(default_factory=dict)
    views: dict[Namespace, NamespaceView] = field(default_factory=dict)
    recovering: bool = True
    _view_faults: list[Fault] = field(default_factory=list)
    _applied: int = 0
    _is_awaiting: bool = True
    _may_be_settled: bool = False
    _standing: StandingNamespaces = field(init=False)
    _written_at: dict[Namespace, int] = field(init=False)
    _fold: Fold = field(init=False)
    _converter: str = field(init=False)

    def __post_init__(self) -> None:
        """Begins with an empty fold, and with the decisions that were in force."""
        self._fold = Fold(self.settings, self.guard)
        self._converter = converter_name(self.settings, self.guard)
        self._standing = StandingNamespaces.of(self.published)
        self._written_at = {name: one.written_at for name, one in self.published.items()}
        releases = {}
        for namespace, standing in self.published.items():
            if standing.manifest is None:
                continue
            decisions = standing.manifest.decisions
            releases.update({(one.offset, one.event.issued_at): one for one in releases_of(decisions)})
            if in_force := without_releases(decisions):
                self._fold.state.decisions[namespace] = in_force
            if (decided := standing.manifest.version.get(CONTROL_EVENTS)) is not None:
                self._fold.state.changes[namespace] = NamespaceChanges(version={CONTROL_EVENTS: decided})
        self._fold.decider.schedule(releases.values())

    def begin(self, topic: str, beginning: Beginning) -> None:
        """The topic is read like this."""
        self.first_offsets[topic] = self.next_offsets[topic] = beginning.start
        self.live_from[topic], self.first_read[topic] = beginning.live_from, beginning.first_read
        if beginning.fault is not None:
            self._standing.unsettled.add(topic)

    def reach(self, topic: str, offset: int) -> None:
        """Everything below that offset is read: what is between the last record and it holds none.

        Aborted transactions and the markers that end a transaction take offsets, too.
        """
        if offset > self.next_offsets.get(topic, offset):
            self.next_offsets[topic] = offset

    def reach_end(self, topic: str, offset: int) -> None:
        """There is nothing more to read of the topic now."""
        self.reach(topic, offset)
        self.live_from.pop(topic, None)

    @property
    def progress(self) -> Progress:
        """How far the recovery is."""
        begun = {topic: self.first_offsets.get(topic, 0) for topic in self.live_from}
        done = sum(self.next_offsets.get(topic, first) - first for topic, first in begun.items())
        return Progress(done, sum(self.live_from[topic] - first for topic, first in begun.items()) - done)

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> Outcome:
        """Folds in an event; what was set aside of it is in `faults`."""
        self.next_offsets[topic] = offset + 1
        outcome = self._fold.apply(topic, offset, event)
        if self._is_awaiting:
            self._note_standing(topic, offset, event)
        if outcome is _APPLIED:
            self._applied += 1
            return outcome
        _EVENTS[outcome].inc()
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

    def _note_standing(self, topic: str, offset: int, event: RegistryEvent) -> None:
        """Notes that a namespace that stands published may be compared now."""
        if isinstance(event.body, NamespaceGone) and event.namespace in self._standing:
            self._standing.note_gone(event.namespace, event.datacenter)
            self._fold.state.touch(event.namespace, topic, offset, event.observed_at, Touched())
        if isinstance(event.body, NamespaceGone | SyncCompleted | Heartbeat):
            self._may_be_settled = True

    def count_applied(self) -> None:
        """Adds the events since the last call to the metric: once a batch, since each time takes a lock."""
        _EVENTS[_APPLIED].inc(self._applied)
        self._applied = 0

    def has_caught_up(self) -> bool:
        """Whether the fold is where the last transaction left it."""
        return all(self.next_offsets.get(topic, 0) >= offset for topic, offset in self.live_from.items())

    def recovered(self) -> Iterator[tuple[NamespaceView, Update]]:
        """Ends the recovery: compares every namespace with what stands published, and yields what differs.

        Where nothing differs the published version stands, so that a restart makes no new one.
        """
        self.recovering = False
        self.take_ended_holds()  # counted when they ended for the first time
        self.take_ended_head_holds()
        state = self._fold.state
        occasion = self._occasion("recovery")
        for namespace in list(state.changes):
            if (update := self._compare(namespace, occasion)) is not None:
                yield self.views[namespace], update
        for namespace in self._standing:
            self._view(namespace)
        self._is_awaiting = bool(self._standing)
        self._standing.all_awaited(state)

    def _compare(self, namespace: Namespace, occasion: Occasion) -> Update | None:
        """What brings a namespace that stood published before the fold to the fold's state, if it may be."""
        state = self._fold.state
        view, changes = self._view(namespace), state.changes[namespace]
        if view.manifest is not None:
            state.adopt_claims(namespace, view.manifest.claims)
        if state.stands(namespace) or not self._may_publish(view):
            return None
        changes.dirty.clear()
        is_known = bool(state.of_namespace(namespace)) or (
            namespace in self._standing and self._standing.is_gone(namespace)
        )
        self._standing.settle(namespace)
        update = view.update_all(state, self._for(namespace, occasion)) if is_known else None
        self._view_faults += view.faults if is_known else []
        if update is None:
            return None
        if not update.records and view.manifest is not None:
            changes.version = dict(view.manifest.version)
            changes.observed_at = view.manifest.observed_at
            return None
        metrics.RECOVERY_DIFFERENCES.inc()
        return update

    def updates(self) -> Iterator[tuple[NamespaceView, Update]]:
        """What the events since the last call changed, namespace by namespace."""
        state = self._fold.state
        if self._may_be_settled:
            yield from self._settle()
        occasion: Occasion | None = None
        for namespace, changes in state.changes.items():
            if not changes.dirty:
                continue
            view = self._view(namespace)
            if state.stands(namespace):
                changes.dirty.clear()  # when it moves again, all is looked at
                continue
            if not self._may_publish(view):
                continue
            dirty, changes.dirty = changes.dirty, Touched()
            occasion = occasion or self._occasion("events")
            update = view.update(state, dirty, self._for(namespace, occasion))
            self._view_faults += view.faults
            if update is not None:
                yield view, update

    def _settle(self) -> Iterator[tuple[NamespaceView, Update]]:
        """Compares the namespaces that need not wait for a datacenter any more."""
        self._may_be_settled = False
        state, occasion = self._fold.state, self._occasion("recovery")
        for namespace in self._standing:
            if namespace in state.changes and (update := self._compare(namespace, occasion)) is not None:
                yield self.views[namespace], update
        self._is_awaiting = bool(self._standing)
        self._standing.all_awaited(state)

    def decide(
        self,
        offset: int,
        event: ControlEvent,
        pinned: Mapping[tuple[str, str], ResourceRecord] | None = None,
    ) -> Iterator[tuple[NamespaceView, Update]]:
        """Carries out an operator's decision; what events changed before it is published already.

        `pinned` is what a pin goes back to. Every decision makes a version of its namespace.

        Raises:
            NotCarriedOutError: it met a fault of ours, and is as if it had not been taken.
        """
        state, namespace = self._fold.state, event.namespace
        view, former = self._view(namespace), state.decisions.get(namespace, ())
        version = dict(state.changes[namespace].version) if namespace in state.changes else {}
        try:
            update = self._decide(offset, event, view, pinned or {})
        except Exception as error:
            state.decisions[namespace] = former
            changes = state.changes.setdefault(namespace, NamespaceChanges())
            changes.version = version
            view.failed = True  # half of it may be done
            raise NotCarriedOutError(f"{type(error).__name__}: {error}") from error
        if update is not None:
            yield view, update
        yield from self.updates()

    def _decide(
        self,
        offset: int,
        event: ControlEvent,
        view: NamespaceView,
        pinned: Mapping[tuple[str, str], ResourceRecord],
    ) -> Update | None:
        state, namespace = self._fold.state, event.namespace
        stood = state.stands(namespace)
        self._fold.decider.decide(offset, event)
        changes = state.changes[namespace]
        occasion = self._for(namespace, self._occasion(f"control: {type(event.body).__name__}"))
        if isinstance(event.body, Pin):
            update = view.replace(state, pinned, occasion)
        elif (
            state.stands(namespace)
            or self._standing.awaited(namespace, state)
            or not (changes.version.keys() - {CONTROL_EVENTS} or isinstance(event.body, ExcludeDatacenter))
        ):
            # It stands, or the log does not say all of it: then what is published is all there is.
            update = view.restate(state, occasion)
        elif stood or namespace in self._standing:
            self._standing.settle(namespace)
            update = view.update_all(state, occasion)
        else:
            update = view.update(state, changes.dirty, occasion)
        if view.failed and not isinstance(event.body, Release):  # a hold that is released is not held again
            raise NotCarriedOutError(view.failure)
        self._view_faults += view.faults
        changes.dirty = Touched()
        return update

    def refusal(self, offset: int, event: ControlEvent) -> str | None:
        """Why a decision can't be carried out; None when it can. An empty one: it was carried out before."""
        is_known = event.namespace in self.views or event.namespace in self.published
        view = self._view(event.namespace) if is_known else None
        if view is None or view.manifest is None:
            return f"namespace {event.namespace} has no snapshot"
        if self._is_decided(view.manifest, offset, event):
            return ""
        if isinstance(event.body, Release) and event.body.scope not in {*Scope}:
            return f"{str(event.body.scope)[:100]} is no scope of the guard; there are {', '.join(Scope)}"
        standing = (*self._fold.state.decisions_over(event.namespace), Decision(event, offset, {}))
        if (size := sum(map(size_of, standing))) > MAX_DECISIONS_BYTES:
            return (
                f"with it the decisions in force have {size} bytes; a manifest has room for {MAX_DECISIONS_BYTES}"
            )
        return None

    def _is_decided(self, manifest: Manifest, offset: int, event: ControlEvent) -> bool:
        """Whether the decision at that offset of the control topic is in the manifest."""
        decided_to = manifest.version.get(CONTROL_EVENTS, -1)
        if self.control_void_from is not None and decided_to >= self.control_void_from:
            return event.issued_at <= self._written_at.get(manifest.namespace, 0)
        return decided_to >= offset

    def _may_publish(self, view: NamespaceView) -> bool:
        """Whether a namespace may be seen anew: all that it was made of, or is to be made of, have stated it."""
        if view.manifest is not None:
            return not self._standing.awaited(view.namespace, self._fold.state)
        state = self._fold.state
        if not state.is_complete(view.namespace):
            return False
        if not state.missing(view.namespace, self.expected.datacenters):
            return True
        return state.waited_us(view.namespace) >= self.expected.grace_s * 1e6

    def _for(self, namespace: Namespace, occasion: Occasion) -> Occasion:
        missing = self._fold.state.missing(namespace, self.expected.datacenters)
        return occasion._replace(missing=missing) if missing else occasion

    def _occasion(self, reason: str) -> Occasion:
        state = self._fold.state
        recover_from = {topic: self.recovery_offset(topic) for topic in state.positions}
        state.releases = [
            one
            for one in state.releases
            if any(recover_from.get(topic, 0) <= offset for topic, offset in one.position.items())
        ]
        return Occasion(
            reason=reason,
            recover_from=recover_from,
            folded_to=dict(state.positions),
            converter=self._converter,
        )

    def recovery_offset(self, topic: str) -> int:
        """Where a fold of this topic must begin to arrive at the present state; not asked of the control topic."""
        return recovery_offset(self._fold.state, topic, self.next_offsets.get(topic, 0))

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What was set aside of the last event."""
        return tuple(self._fold.faults)

    def take_view_faults(self) -> list[Fault]:
        """What could not be made of the state since the last call, and was not told before."""
        found, self._view_faults = self._view_faults, []
        return found

    def note_unwritten(self, namespace: Namespace) -> None:
        """An update could not be written as a whole: all of it is looked at again with the next keyframe."""
        self._fold.state.note_faulted(namespace, None)

    def conflicts(self) -> dict[str, tuple[str, ...]]:
        """Resources that several want to state, and who; the first has them."""
        return {
            f"{namespace}: {collection} {name}": rivals
            for namespace, view in self.views.items()
            for (collection, name), rivals in view.conflicts.items()
        }

    def rivals(self) -> dict[str, tuple[str, ...]]:
        """Names and hosts that several services want, and which; the first has it."""
        return {
            f"{namespace}: {name}": who
            for namespace, view in self.views.items()
            for name, who in view.rivals.items()
        }

    def without_address(self) -> list[str]:
        """Services that would have a virtual address if the range had one left."""
        return [f"{namespace}: {one}" for namespace, view in self.views.items() for one in view.without_address]

    def oversized(self) -> dict[str, int]:
        """Resources that are too large to be written, and their bytes; the last that fitted stand."""
        return {
            f"{namespace}: {collection} {name}": size
            for namespace, view in self.views.items()
            for (collection, name), size in view.oversized.items()
        }

    def faulted(self) -> dict[str, str]:
        """Resources that could not be made, and why; the last that could be stand."""
        return {
            f"{namespace}: {collection} {name}": why
            for namespace, view in self.views.items()
            for (collection, name), why in view.faulted.items()
        }

    @property
    def suspect(self) -> int:
        """How many namespaces have a hole in their events, or await a statement, counted in each datacenter."""
        state = self._fold.state
        awaited = 0 if self.recovering else sum(map(len, self._standing.all_awaited(state).values()))
        holes = (ns.suspect for datacenter in state.datacenters.values() for ns in datacenter.namespaces.values())
        return awaited + sum(holes)

    def is_unsettled(self, topic: str) -> bool:
        """Whether the topic's log has a hole over which not all namespaces were stated anew yet."""
        return topic in self._standing.unsettled

    def awaited(self) -> dict[Namespace, frozenset[Datacenter]]:
        """The namespaces that stand at what was published before a hole in the log, and whom they await."""
        return {} if self.recovering else self._standing.all_awaited(self._fold.state)

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

    def head_holds(self) -> list[tuple[Datacenter, HeadHold]]:
        """The heads of services that are kept although their instances vote for others."""
        return [
            (name, hold)
            for name, datacenter in self._fold.state.datacenters.items()
            for hold in datacenter.heads.holds.values()
        ]

    def take_ended_head_holds(self) -> list[tuple[Datacenter, HeadHold, Ending]]:
        """Those that ended since the last call: datacenter, hold, why."""
        found = []
        for name, datacenter in self._fold.state.datacenters.items():
            found += [(name, hold, ending) for hold, ending in datacenter.heads.ended]
            datacenter.heads.ended.clear()
        return found

    def strange(self) -> dict[Datacenter, str]:
        """Datacenters whose events may be passed over for a session that no listener has, and why."""
        return {name: one.strange for name, one in self._fold.state.datacenters.items() if one.strange}

    def clock_jumps(self) -> dict[Datacenter, int]:
        """Records of each datacenter with a time of their own, which the guard's clock did not move by."""
        return {name: one.guard.jumps for name, one in self._fold.state.datacenters.items() if one.guard.jumps}

    def status(self) -> dict[str, object]:
        """The partition as an operator sees it."""
        return {
            "recovering": self.recovering,
            "next_offsets": dict(self.next_offsets),
            "namespaces": sorted(self.views),
            "awaited": {name: sorted(datacenters) for name, datacenters in self.awaited().items()},
            "unsettled_topics": sorted(self._standing.unsettled),
            "holds": [hold.describe(name) for name, hold in self.holds()]
            + [hold.describe(name) for name, hold in self.head_holds()],
            "datacenters": datacenter_statuses(self._fold.state),
        }

    def namespaces(self) -> dict[Namespace, NamespaceStatus]:
        """Each namespace as an operator sees it."""
        state = self._fold.state
        return {
            name: namespace_status(
                state, view, self.expected.datacenters, awaited=self._standing.awaited(name, state)
            )
            for name, view in self.views.items()
        }

    def _view(self, namespace: Namespace) -> NamespaceView:
        view = self.views.get(namespace)
        if view is None:
            view = self.views[namespace] = NamespaceView(namespace, self.settings)
            standing = self.published.pop(namespace, None)
            if standing is not None and standing.manifest is not None:
                view.adopt(standing.versions, standing.manifest)
        return view
