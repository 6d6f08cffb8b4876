"""What is taken down of one stream: for the audit trail, the metrics, and the operator."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import structlog

from mcp_gateway import metrics
from mcp_gateway.sessions.watch import Answer
from mcp_gateway.views.synthetic import SYNTHETIC_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_gateway.deliveries import DeliveryTrail, Recipient
    from mcp_gateway.loop_metrics import Count, Observations
    from mcp_gateway.sessions.session import Received
    from mcp_gateway.sessions.watch import Watch
    from mcp_gateway.views.view import View

_log = structlog.get_logger()


class Push(NamedTuple):
    """A message that is due: the watch it is for, the version it brings, and what of the log is in it."""

    watch: Watch
    version: str
    message: bytes
    folded_to: Mapping[str, int]


class _Series(NamedTuple):
    """Where the pushes of a collection are counted, and their acknowledgements."""

    pushes: Count
    bytes: Count
    sizes: Observations
    acknowledgements: Count
    seconds_to_ack: Observations


@dataclass(slots=True)
class Books:
    """One peer's pushes and answers. Belongs to the event loop; what is public may be read from any thread.

    `unanswered_since` is on the monotonic clock; `latency_s` is from Nacos's last push to this peer's answer.
    """

    peer: Recipient
    trail: DeliveryTrail
    opened_at: float = field(default_factory=time.time)
    latency_s: float | None = None
    acknowledged_at: dict[str, float] = field(default_factory=dict)
    unanswered_since: float | None = None
    _handed_over: Push | None = None
    _series: dict[str, _Series] = field(default_factory=dict)

    def asked_for(self, collection: str, view: View) -> None:
        """Warns of a Pilot that gets each service twice: as an ordinary and as a synthetic entry."""
        if collection == SYNTHETIC_ENTRIES and not view.selection.is_registry:
            _log.warning(
                "services_sent_twice", peer=self.peer.address, node=self.peer.node, view=view.name,
                remedy=f"a Pilot with SERVICE_REGISTRY needs a view with is_registry: true; {view.name} has not",
            )  # fmt: skip

    def handed_over(self, push: Push) -> None:
        """It is being written; `sent` takes it down."""
        self._handed_over = push

    def sent(self) -> None:
        """Takes down what was handed to the transport.

        After the write, so that a change reaches the next stream before this is done; but before the answer of a
        peer so quick that it is read before the write returns.
        """
        push, self._handed_over = self._handed_over, None
        if push is None:
            return
        collection, size = push.watch.collection, len(push.message)
        self.trail.sent(self.peer, collection, push.version, size, push.folded_to)
        series = self._series_of(collection)
        series.pushes.inc()
        series.bytes.inc(size)
        series.sizes.observe(size)
        self.unanswered_since = time.monotonic()

    def received(self, received: Received, view: View | None) -> None:
        """Takes down an answer; `view` is the peer's, once it is chosen."""
        watch, answer, version, _, _ = received
        if self._handed_over is not None and self._handed_over.watch is watch and version is not None:
            self.sent()
        self.unanswered_since = None
        if answer is Answer.ACK:
            self._acknowledged(watch, version or "", view)
        elif answer is Answer.NACK:
            self._refused(received)
        elif answer is Answer.STALE:
            metrics.STALE_NONCES.inc()

    def _acknowledged(self, watch: Watch, version: str, view: View | None) -> None:
        collection = watch.collection
        self.trail.acknowledged(self.peer, collection, version)
        self.acknowledged_at[watch.asked_as] = now = time.time()
        series = self._series_of(collection)
        series.acknowledgements.inc()
        known = None if view is None else view.known(collection)
        if known is None or version != known.version:
            return
        observed_at = known.observed_at / 1e6
        if observed_at > self.opened_at:  # a peer's first push is old content: how late it is says nothing
            self.latency_s = now - observed_at
            series.seconds_to_ack.observe(self.latency_s)

    def _refused(self, received: Received) -> None:
        collection, version = received.watch.collection, received.version or ""
        metrics.refused(collection, received.code)
        self.trail.refused(self.peer, collection, version, received.code, received.message)
        _log.warning(
            "push refused by the peer", peer=self.peer.address, collection=collection, version=version,
            code=received.code, message=received.message[:500],
        )  # fmt: skip

    def _series_of(self, collection: str) -> _Series:
        series = self._series.get(collection)
        if series is None:
            label, view, protocol = metrics.collection_label(collection), self.peer.view, self.peer.protocol
            series = self._series[collection] = _Series(
                metrics.PUSHES.labels(view, protocol),
                metrics.PUSHED_BYTES.labels(view, protocol),
                metrics.MESSAGE_SIZES.labels(label),
                metrics.REQUEST_ACKS.labels(label),
                metrics.PUSH_TO_ACK.labels(protocol),
            )
        return series
