"""What operators see of the partitions: metrics, log lines when something begins or ends, debug pages."""

from __future__ import annotations

import time
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from consumers import metrics
from consumers.materializer.conversion.instance_address import Unlisted
from consumers.materializer.guard import Scope
from consumers.materializer.warned_items import WarnedItems
from consumers.settings import GuardMode
from consumers.times import time_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from consumers.materializer.partition import MaterializedPartition
    from consumers.materializer.status import NamespaceStatus
    from schemas.events import Datacenter, Namespace
    from schemas.records import Manifest

_log = structlog.get_logger()

_PROGRESS_S = 5.0
_MOST_LINES = 100
_MOST_NAMED = 5


class Status(NamedTuple):
    """The partitions at one moment; made anew each time, so that any thread may read it."""

    partitions: dict[str, Any]
    namespaces: dict[Namespace, NamespaceStatus]
    waiting_for: str
    """Why the partitions are not ready; empty when they are."""
    awaiting: str = ""
    """Which namespaces stand at what was published before a hole in the log; empty where none does."""


class Reporting:
    """Called about once a second by the engine, on its thread."""

    def __init__(self) -> None:
        self._holds: set[str] = set()
        self._head_holds: set[str] = set()
        self._conflicts: set[str] = set()
        self._without_address: set[str] = set()
        self._rivals: set[tuple[str, tuple[str, ...]]] = set()
        self._oversized: set[str] = set()
        self._awaiting: set[str] = set()
        self._strange: set[tuple[int, str]] = set()
        self._jumps: dict[tuple[int, Datacenter], int] = {}
        self._recovering_since = 0.0
        self._progress_at = 0.0
        self._warned_items = WarnedItems()

    def report(
        self,
        partitions: Collection[MaterializedPartition],
        decisions_waiting: Mapping[int, list[dict[str, object]]] = MappingProxyType({}),
    ) -> Status:
        """Sets the metrics, logs what is new, and answers with the status."""
        self._report_holds(partitions)
        self._report_head_holds(partitions)
        self._report_conflicts(partitions)
        self._report_rivals(partitions)
        self._report_addresses(partitions)
        self._report_oversized(partitions)
        self._report_strange(partitions)
        self._report_jumps(partitions)
        metrics.FAULTED.set(sum(len(partition.faulted()) for partition in partitions))
        self._report_set_aside(partitions)
        metrics.SUSPECT.set(sum(p.suspect for p in partitions))
        metrics.NAMESPACES.set(sum(len(p.views) for p in partitions))
        metrics.RESOURCES.set(sum(len(v.versions) for p in partitions for v in p.views.values()))
        namespaces = {name: status for p in partitions for name, status in p.namespaces().items()}
        metrics.STANDING.set(sum(status.stands for status in namespaces.values()))
        self._warned_items.report(namespaces)
        return Status(
            partitions={
                str(p.number): p.status() | {"decisions_waiting": decisions_waiting.get(p.number, [])}
                for p in partitions
            },
            namespaces=namespaces,
            waiting_for=self._progress(partitions) if partitions else "no partition held yet",
            awaiting=self._report_awaiting(partitions),
        )

    def _progress(self, partitions: Collection[MaterializedPartition]) -> str:
        """How far the recovery is; empty when there is none."""
        recovering = [partition for partition in partitions if partition.recovering]
        metrics.RECOVERY_LEFT.set(sum(partition.progress.left for partition in recovering))
        now = time.monotonic()
        if not recovering:
            self._recovering_since = 0.0
            return ""
        self._recovering_since = self._recovering_since or now
        done = sum(partition.progress.done for partition in recovering)
        left = sum(partition.progress.left for partition in recovering)
        eta_s = (now - self._recovering_since) * left / done if done else None
        text = f"recovering {len(recovering)} partitions: {done:,} of {done + left:,} offsets folded"
        if eta_s is not None:
            text += f", about {eta_s:.0f} s left"
        if now - self._progress_at > _PROGRESS_S:
            self._progress_at = now
            _log.info("recovering", partitions=len(recovering), done=done, left=left)
        return text

    def _report_awaiting(self, partitions: Collection[MaterializedPartition]) -> str:
        """Namespaces that are not published anew before datacenters have stated them."""
        present = {
            f"{namespace} awaits {', '.join(sorted(datacenters))}"
            for partition in partitions
            for namespace, datacenters in partition.awaited().items()
        }
        for one in sorted(present - self._awaiting)[:_MOST_LINES]:
            _log.error("namespace_awaits_keyframe", namespace=one)
        if self._awaiting and not present:
            _log.info("no_namespace_awaits_a_keyframe")
        self._awaiting = present
        metrics.AWAITING.set(len(present))
        if not present:
            return ""
        named = "; ".join(sorted(present)[:_MOST_NAMED])
        return f"{len(present)} namespaces stand until their next keyframe: {named}"

    def _report_conflicts(self, partitions: Collection[MaterializedPartition]) -> None:
        """Resources that several config items, or an item and a service, want to state."""
        present = {name: who for partition in partitions for name, who in partition.conflicts().items()}
        for name in present.keys() - self._conflicts:
            _log.warning("conflict: the first has the resource", resource=name, claimants=present[name])
        self._conflicts = set(present)
        metrics.CONFLICTS.set(len(present))

    def _report_rivals(self, partitions: Collection[MaterializedPartition]) -> None:
        """Names and hosts that several services want: the first has it, the others carry a hash."""
        present = {
            one for partition in partitions if not partition.recovering for one in partition.rivals().items()
        }
        for name, who in sorted(present - self._rivals)[:_MOST_LINES]:
            _log.warning("name_wanted_by_several", name=name, has_it=who[0], wanted_by=who[1 : 1 + _MOST_NAMED])
        self._rivals = present
        metrics.RIVALS.set(len(present))

    def _report_set_aside(self, partitions: Collection[MaterializedPartition]) -> None:
        """Instances that Nacos gives out and that are not listed."""
        counts: Counter[str] = Counter()
        for partition in partitions:
            for view in partition.views.values():
                counts.update(view.set_aside.counts)
        for why in Unlisted:
            metrics.SET_ASIDE.labels(why).set(counts[why])

    def _report_addresses(self, partitions: Collection[MaterializedPartition]) -> None:
        """Services for which the range of virtual addresses had none left."""
        present = {one for partition in partitions for one in partition.without_address()}
        for name in sorted(present - self._without_address)[:_MOST_LINES]:
            _log.warning("no_virtual_address_left", service=name)
        self._without_address = present
        metrics.WITHOUT_ADDRESS.set(len(present))

    def _report_oversized(self, partitions: Collection[MaterializedPartition]) -> None:
        """Resources that Kafka would not take."""
        present = {name: size for partition in partitions for name, size in partition.oversized().items()}
        for name in present.keys() - self._oversized:
            _log.error("a resource is too large; the last that fitted stands", resource=name, bytes=present[name])
        self._oversized = set(present)
        metrics.OVERSIZED.set(len(present))

    def _report_strange(self, partitions: Collection[MaterializedPartition]) -> None:
        """Datacenters whose listener may not be heard any more."""
        present = {(p.number, name): why for p in partitions for name, why in p.strange().items()}
        for number, name in present.keys() - self._strange:
            _log.error("session_strange", datacenter=name, partition=number, reason=present[number, name])
        self._strange = set(present)
        metrics.STRANGE.set(len(present))

    def _report_jumps(self, partitions: Collection[MaterializedPartition]) -> None:
        """Records whose time is more than an hour from the one before."""
        present = {(p.number, name): jumps for p in partitions for name, jumps in p.clock_jumps().items()}
        for (number, name), jumps in present.items():
            new = jumps - self._jumps.get((number, name), 0)
            if new > 0:
                metrics.CLOCK_JUMPS.inc(new)
                _log.warning("clock_jumped", datacenter=name, partition=number, records=new)
        self._jumps = present

    def _report_holds(self, partitions: Collection[MaterializedPartition]) -> None:
        """Open and ended holds, as metrics; in the log, when they come and go."""
        present = {
            hold.describe(datacenter): hold
            for partition in partitions
            if not partition.recovering
            for datacenter, hold in partition.holds()
        }
        for name in present.keys() - self._holds:
            _log.warning("endpoints are held", hold=name)
        self._holds = set(present)
        for scope in Scope:
            for mode in (GuardMode.OBSERVE, GuardMode.ENFORCE):
                holds = [hold for hold in present.values() if (hold.scope, hold.mode) == (scope, mode)]
                metrics.HOLDS.labels(scope, mode).set(len(holds))
        for partition in partitions:
            for datacenter, hold, ending in partition.take_ended_holds():
                metrics.HOLDS_ENDED.labels(hold.scope, ending).inc()
                _log.warning("endpoints are no longer held", hold=hold.describe(datacenter), ending=ending)

    def _report_head_holds(self, partitions: Collection[MaterializedPartition]) -> None:
        """Services whose instances vote for another head, and what came of it."""
        present = {
            hold.describe(datacenter): hold.mode
            for partition in partitions
            if not partition.recovering
            for datacenter, hold in partition.head_holds()
        }
        for name in sorted(present.keys() - self._head_holds)[:_MOST_LINES]:
            _log.warning("head_of_service_changes", hold=name)
        self._head_holds = set(present)
        modes = list(present.values())
        for mode in (GuardMode.OBSERVE, GuardMode.ENFORCE):
            metrics.HEAD_HOLDS.labels(mode).set(modes.count(mode))
        for partition in partitions:
            for datacenter, hold, ending in partition.take_ended_head_holds():
                metrics.HEAD_HOLDS_ENDED.labels(ending).inc()
                _log.warning("head_of_service_settled", hold=hold.describe(datacenter), ending=ending)


def namespaces_page(status: Status) -> list[dict[str, Any]]:
    """`/debug/namespaces`: a line each."""
    return [
        {
            "namespace": name,
            "published": one.manifest is not None,
            "resources": 0 if one.manifest is None else one.manifest.resources,
            "digest": None if one.manifest is None else one.manifest.digest,
            "frozen": one.stands,
            "holds": len(one.holds),
            "missing": list(one.missing),
            "awaited": list(one.awaited),
            "datacenters": sorted(one.datacenters),
        }
        for name, one in sorted(status.namespaces.items())
    ]


def namespace_page(status: Status, name: Namespace) -> dict[str, Any]:
    """`/debug/namespace/NAME`: the manifest, the state of each datacenter, holds, conflicts, rivals."""
    one = status.namespaces.get(name)
    if one is None:
        return {"error": f"no namespace {name} here", "namespaces": sorted(status.namespaces)}
    return {
        "namespace": name,
        "frozen": one.stands,
        "missing": list(one.missing),
        "faulted": {" ".join(resource): why for resource, why in one.faulted.items()},
        "bad_items": one.bad_items,
        "item_warnings": {item: list(warnings) for item, warnings in one.item_warnings.items()},
        "awaited": list(one.awaited),
        "set_aside": one.set_aside,
        "holds": list(one.holds),
        "conflicts": {f"{collection} {resource}": who for (collection, resource), who in one.conflicts.items()},
        "names_wanted_by_several": {
            wanted: {"has_it": who[0], "wanted_by": who[1:]} for wanted, who in one.rivals.items()
        },
        "without_virtual_address": one.without_address,
        "datacenters": one.datacenters,
        "manifest": None if one.manifest is None else _describe(one.manifest),
    }


def _describe(manifest: Manifest) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "digest": manifest.digest,
        "resources": manifest.resources,
        "added": manifest.added,
        "changed": manifest.changed,
        "removed": manifest.removed,
        "reason": manifest.reason,
        "converter": manifest.converter,
        "observed_at": time_text(manifest.observed_at),
        "decisions": [
            {
                "kind": type(one.event.body).__name__,
                "author": one.event.author,
                "reason": one.event.reason,
                "offset": one.offset,
            }
            for one in manifest.decisions
        ],
        "recover_from": manifest.recover_from,
        "folded_to": manifest.folded_to,
    }
