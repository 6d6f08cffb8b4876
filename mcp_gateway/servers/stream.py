"""Drives one session over one gRPC stream, whatever its protocol and whoever dialled."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc.aio
import structlog

from mcp_gateway import metrics
from mcp_gateway.errors import NotAllowedError, ProtocolError, StalledError, StoppingError, UnreadError
from mcp_gateway.servers.admission import Pace
from mcp_gateway.sessions.watch import Answer, Watch
from mcp_gateway.views.publisher import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp_gateway.deliveries import DeliveryTrail, Recipient
    from mcp_gateway.sessions.session import Node, Received, Watches
    from mcp_gateway.settings import LimitSettings
    from mcp_gateway.views.publisher import Publisher
    from mcp_gateway.views.view import MessageFormat, View
    from mcp_gateway.views.views import Views

_log = structlog.get_logger()

Request = TypeVar("Request")
Request_contra = TypeVar("Request_contra", contravariant=True)


class Session(Protocol[Request_contra]):
    """A protocol's state machine."""

    node: Node
    watches: Watches

    def receive(self, request: Request_contra) -> Received | None:
        """Takes a request; raises ProtocolError or FellBehindError."""


class Wire(Protocol):
    """A stream's two directions; grpc.aio's server and client calls have them both."""

    async def read(self) -> Any:
        """The next message's bytes, or `grpc.aio.EOF`."""

    async def write(self, message: bytes) -> None:
        """Returns when the transport has taken the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect(Generic[Request]):
    """What is particular to a protocol."""

    protocol: str
    session: Callable[[], Session[Request]]
    message_format: MessageFormat
    parse: Callable[[bytes], Request]


@dataclass(slots=True, eq=False)
class Stream(Generic[Request]):
    """One peer's stream: its view is chosen by its first request.

    Reading and writing go on side by side. A peer that reads slowly keeps only its own stream waiting, with one
    message per collection; one that neither reads nor answers for too long is let go.
    """

    dialect: Dialect[Request]
    peer: Recipient
    identities: Sequence[str]
    views: Views
    trail: DeliveryTrail
    limits: LimitSettings
    opened_at: float = field(default_factory=time.time)
    latency_s: float | None = None
    acknowledged_at: dict[str, float] = field(default_factory=dict)
    session: Session[Request] = field(init=False)
    _subscription: Subscription = field(default_factory=Subscription)
    _publisher: Publisher | None = None
    _over: Exception | None = None
    _is_closed: bool = False
    _handed_over: tuple[Watch, str, int, Mapping[str, int]] | None = None
    _sending_since: float | None = None
    _unanswered_since: float | None = None
    _task: asyncio.Task[Any] | None = None

    def __post_init__(self) -> None:
        self.session = self.dialect.session()

    @property
    def watches(self) -> Watches:
        """What the peer watches."""
        return self.session.watches

    async def run(self, wire: Wire) -> None:
        """Serves until the peer ends the stream.

        Raises:
            GatewayError: it ends for another reason; the text is for the peer.
        """
        self._task = asyncio.current_task()
        try:
            async with asyncio.timeout(self.limits.first_request_s):
                first = await wire.read()
        except TimeoutError:
            raise StalledError("no request came") from None
        if first is grpc.aio.EOF:
            return
        self._take(first)
        self._publisher = publisher = self._choose()
        reader = asyncio.create_task(self._read_all(wire))
        try:
            with publisher.subscribed(self._subscription):
                await self._write_all(wire, publisher.view)
        finally:
            reader.cancel()

    def let_go_if_stalled(self, now: float) -> None:
        """Ends the stream when a push was not read, or not answered, for longer than the limit.

        Called now and then for every stream: a timer for each push would cost a tenth of the push.
        """
        limit = self.limits.stalled_s
        if self._sending_since is not None and now - self._sending_since > limit and self._task is not None:
            self._over = UnreadError(f"a push was not read in {limit:g} s")
            self._task.cancel()
        elif self._unanswered_since is not None and now - self._unanswered_since > limit:
            self._end(StalledError(f"no answer to a push in {limit:g} s"))

    def leave(self) -> None:
        """The gateway is going: the stream ends after what it is sending."""
        self._end(StoppingError("this gateway stops; connect to another one"))

    def as_json(self) -> dict[str, Any]:
        """The stream as an operator sees it: plain values; read from the admin thread."""
        view = None if self._publisher is None else self._publisher.view
        unanswered = self._unanswered_since
        return {
            "peer": self.peer.address,
            "protocol": self.peer.protocol,
            "identity": self.peer.identity,
            "node": self.peer.node,
            "view": self.peer.view,
            "connected_s": round(time.time() - self.opened_at, 1),
            "unanswered_s": unanswered and round(time.monotonic() - unanswered, 1),
            "push_to_ack_ms": None if self.latency_s is None else round(self.latency_s * 1000, 1),
            "collections": {
                watch.asked_as: {
                    "acknowledged": watch.acknowledged,
                    "acknowledged_at": self.acknowledged_at.get(watch.asked_as),
                    "pending": watch.pending,
                    "refused": watch.refused,
                    "is_behind": view is not None and watch.acknowledged != view.version(watch.collection),
                    "versions_behind": view and view.versions_behind(watch.collection, watch.acknowledged),
                }
                for watch in list(self.watches)
            },
        }

    def _choose(self) -> Publisher:
        found = self.views.choose(self.identities, self.session.node.facts)
        if found is None:
            raise NotAllowedError("no view is meant for your identity or node")
        self.peer.view = found.view.name
        for watch in self.watches:
            found.view.watch(watch.collection)
        return found

    async def _read_all(self, wire: Wire) -> None:
        pace = Pace(self.limits.requests_per_s, self.limits.requests_per_s * 2)
        try:
            while (data := await wire.read()) is not grpc.aio.EOF:
                self._take(data)
                if (wait_s := pace.wait_s()) > 0:
                    await asyncio.sleep(wait_s)
        except Exception as error:  # noqa: BLE001 - raised again by the writer, which owns the stream
            self._end(error)
        else:
            self._is_closed = True
            self._subscription.woken.set()

    async def _write_all(self, wire: Wire, view: View) -> None:
        while True:
            await self._push(wire, view)
            await self._subscription.woken.wait()
            self._subscription.woken.clear()
            if self._over is not None:
                raise self._over
            if self._is_closed:
                return

    def _end(self, error: Exception) -> None:
        self._over = error
        self._subscription.woken.set()

    def _take(self, data: bytes) -> None:
        try:
            request = self.dialect.parse(data)
        except Exception as error:  # protobuf's errors differ between its implementations
            raise ProtocolError(f"not a request of this protocol: {error}") from error
        received = self.session.receive(request)
        self.peer.node = self.session.node.id
        if received is None:
            return
        collection = received.watch.collection
        self._note(received)
        self._unanswered_since = None
        if self._publisher is not None:
            view = self._publisher.view
            if received.answer is Answer.INITIAL:
                view.watch(collection)
            if received.watch.pending is not None or received.watch.is_settled(view.version(collection)):
                return  # nothing follows now: waking the writer for it would cost a tenth of a push
        self._subscription.note({collection: None})

    def _note(self, received: Received) -> None:
        watch, answer = received.watch, received.answer
        if self._handed_over is not None and self._handed_over[0] is watch and received.version is not None:
            self._note_sent()
        if answer is Answer.ACK:
            metrics.acknowledged(watch.collection)
            self.trail.acknowledged(self.peer, watch.collection, received.version or "")
            self.acknowledged_at[watch.asked_as] = now = time.time()
            self._note_latency(received, now)
        elif answer is Answer.NACK:
            metrics.refused(watch.collection, received.code)
            self.trail.refused(
                self.peer, watch.collection, received.version or "", received.code, received.message
            )
            _log.warning(
                "push refused by the peer", peer=self.peer.address, collection=watch.collection,
                version=received.version, code=received.code, message=received.message[:500],
            )  # fmt: skip
        elif answer is Answer.STALE:
            metrics.STALE_NONCES.inc()

    def _note_latency(self, received: Received, now: float) -> None:
        """From Nacos's push to this acknowledgement; a peer's first push is old content and does not count."""
        if self._publisher is None:
            return
        view, collection = self._publisher.view, received.watch.collection
        observed_at = view.observed_at(collection) / 1e6
        if observed_at > self.opened_at and received.version == view.version(collection):
            self.latency_s = now - observed_at
            metrics.PUSH_TO_ACK.observe((self.dialect.protocol,), self.latency_s)

    async def _push(self, wire: Wire, view: View) -> None:
        for watch in self.watches.due(view.version, self._subscription.take()):
            message = watch.message(view, self.dialect.message_format)
            if message is not None:
                self._handed_over = (watch, watch.pending or "", len(message), view.folded_to)
                await self._send(wire, message)
        if self.watches.waited:
            metrics.COALESCED.inc((view.name,), self.watches.waited)
            self.watches.waited = 0

    async def _send(self, wire: Wire, message: bytes) -> None:
        self._sending_since = time.monotonic()
        try:
            await wire.write(message)
        except asyncio.CancelledError:
            metrics.SEND_FAILURES.inc()
            if self._over is not None:
                raise self._over from None
            raise
        finally:
            self._sending_since = None
            self._note_sent()

    def _note_sent(self) -> None:
        """Takes down what was handed to the transport.

        After the write, so that a change reaches the next stream before this is done; but before the answer of a
        peer so quick that it is read before the write returns.
        """
        if self._handed_over is None:
            return
        (watch, version, size, folded_to), self._handed_over = self._handed_over, None
        self.trail.sent(self.peer, watch.collection, version, size, folded_to)
        metrics.pushed((self.peer.view, self.dialect.protocol), watch.collection, size)
        self._unanswered_since = time.monotonic()
