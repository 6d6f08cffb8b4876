"""What a Pilot had: from the record of deliveries to the content, proven by the version that it acknowledged.

A delivery names the version of a collection as the Pilot's view had it, and how far the log was in it. The log
gives each namespace's snapshot of then; seen through the view they must come to that version.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Self

from consumers.audit.delivery_log import DeliveryLog
from consumers.audit.verdict import Verdict
from mcp_gateway.resources import store_resource
from mcp_gateway.store import AppliedChanges
from mcp_gateway.views.view import View
from schemas.avro_codec import codecs
from shiplog.audit.logs import make_log, partition_count
from shiplog.audit.times import format_us
from shiplog.control.client import ControlClient

if TYPE_CHECKING:
    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog, Rebuilt
    from consumers.audit.trails import Loss, Sending, Trail
    from mcp_gateway.resources import StoredResource
    from schemas.events import Namespace
    from shiplog.settings import Settings

_CLOCKS_DIFFER_MS = 60_000
_MAX_UNCERTAIN = 6


@dataclass(frozen=True, slots=True)
class PilotAnswer:
    """What a Pilot had of a collection: resources by name and version, and whether that is proven."""

    sending: Sending | None
    verdict: Verdict
    reason: str = ""
    resources: dict[str, str] = field(default_factory=dict)
    snapshots: dict[Namespace, Rebuilt] = field(default_factory=dict)


class PilotAudit:
    """Answers for any Pilot and moment; use it as a context. Raises as `NamespaceLog` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        deliveries = DeliveryLog(settings.kafka, codecs(settings.registry()))
        self._deliveries = self._stack.enter_context(deliveries)
        partitions = partition_count(settings)
        with ControlClient(settings.kafka, codecs(settings.registry()), "shiplog-audit") as client:
            names = sorted(client.manifests())
        self._logs = [self._stack.enter_context(make_log(settings, name, partitions)) for name in names]
        self._views = settings.gateway.make_views()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def trail(self, pilot: str, collection: str, time_ms: int) -> Trail:
        """The deliveries that tell what the Pilot had."""
        return self._deliveries.before(
            time_ms, lambda trail: trail.had(pilot, collection, time_ms * 1000) is not None
        )

    def at(self, pilot: str, collection: str, time_ms: int) -> PilotAnswer:
        """What the Pilot had acknowledged last by that moment."""
        trail = self.trail(pilot, collection, time_ms)
        sending = trail.had(pilot, collection, time_ms * 1000)
        if sending is None:
            return PilotAnswer(None, Verdict.UNVERIFIABLE, "no push that it acknowledged before is recorded")
        answer = self.content(sending)
        loss = trail.loss_after(sending, time_ms * 1000)
        if loss is not None and answer.verdict is Verdict.VERIFIED:
            reason = f"a later push may be missing: {describe_loss(loss)}"
            return PilotAnswer(sending, Verdict.UNVERIFIABLE, reason, answer.resources, answer.snapshots)
        return answer

    def content(self, sending: Sending) -> PilotAnswer:
        """The content of a push, compared with the version that it bore."""
        sent = sending.sent
        publisher = self._views.publishers.get(sent.view)
        if publisher is None:
            return PilotAnswer(sending, Verdict.UNVERIFIABLE, f"the settings have no view {sent.view}")
        selection = publisher.view.selection
        chosen: dict[NamespaceLog, Published] = {}
        uncertain: dict[NamespaceLog, Published] = {}
        for log in self._logs:
            if not selection.has_namespace(log.namespace):
                continue
            found = version_in(log, sending)
            if found is None:
                continue
            chosen[log] = found
            if is_at_the_edge(log, found, sending):
                former = log.before(found.offset)
                if former is not None:
                    uncertain[log] = former
        fault = ""
        for count in range(min(len(uncertain), _MAX_UNCERTAIN) + 1):
            for swapped in combinations(uncertain, count):
                candidate = chosen | {log: uncertain[log] for log in swapped}
                snapshots = {log.namespace: log.rebuild(one) for log, one in candidate.items()}
                view = _seen(publisher.view, sent.collection, snapshots)
                known = view.collections.get(sent.collection)
                resources = {} if known is None else {n: r.version for n, r in known.resources.items()}
                if view.version(sent.collection) == sent.version:
                    return PilotAnswer(sending, Verdict.VERIFIED, "", resources, dict(snapshots))
                fault = fault or _fault(snapshots, view.version(sent.collection), sent.version)
        verdict = Verdict.MISMATCH if fault.startswith("the log gives") else Verdict.UNVERIFIABLE
        return PilotAnswer(sending, verdict, fault, resources, dict(snapshots))


def describe_loss(loss: Loss) -> str:
    """Whose record is not whole, when, and why."""
    return f"{loss.gateway} between {format_us(loss.from_us)} and {format_us(loss.to_us)}: {loss.why}"


def version_in(log: NamespaceLog, sending: Sending) -> Published | None:
    """The namespace's version that was in a push: the last that the gateway had taken in."""
    folded_to = sending.sent.folded_to

    def is_in(one: Published) -> bool:
        needed = one.manifest.folded_to
        return all(folded_to.get(f"{topic}-{log.number}", -1) >= offset for topic, offset in needed.items())

    newest = log.at(sending.sent.at // 1000 + _CLOCKS_DIFFER_MS)
    return None if newest is None else log.before(newest.offset + 1, is_in)


def is_at_the_edge(log: NamespaceLog, found: Published, sending: Sending) -> bool:
    """Whether a push may have gone out just before the version was taken in: several may share one place."""
    folded_to = sending.sent.folded_to
    return all(
        folded_to.get(f"{topic}-{log.number}") == offset for topic, offset in found.manifest.folded_to.items()
    )


def _seen(like: View, collection: str, snapshots: dict[Namespace, Rebuilt]) -> View:
    view = View(like.name, like.selection)
    view.watch(collection)
    for namespace, snapshot in snapshots.items():
        stored: dict[tuple[str, str], StoredResource | None] = {
            name: store_resource(record, (like.selection.shape,)) for name, record in snapshot.records.items()
        }
        view.apply(AppliedChanges(namespace, stored, 0))
    return view


def _fault(snapshots: dict[Namespace, Rebuilt], found: str, expected: str) -> str:
    for namespace, snapshot in snapshots.items():
        if snapshot.verdict is Verdict.UNVERIFIABLE:
            return f"{namespace}: {snapshot.reason}"
    return f"the log gives {found} for it, and {expected} was delivered; were the view's settings others then?"
