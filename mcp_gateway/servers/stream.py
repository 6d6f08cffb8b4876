"""Drives one session over one gRPC stream, whatever its protocol and whoever dialled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc.aio

from mcp_gateway import metrics
from mcp_gateway.errors import (
    CallLostError,
    NotAllowedError,
    ProtocolError,
    StalledError,
    StoppingError,
    UnreadError,
)
from mcp_gateway.servers.admission import Pace, peer_name
from mcp_gateway.servers.books import Books, Push
from mcp_gateway.servers.in_flight import LARGE
from mcp_gateway.servers.kept_bytes import KeptBytes
from mcp_gateway.sessions.session import Node
from mcp_gateway.sessions.watch import Answer
from runtime.supervision import is_cancellation_requested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp_gateway.deliveries import DeliveryTrail, Recipient
    from mcp_gateway.servers.in_flight import InFlight
    from mcp_gateway.sessions.session import Received, Watches
    from mcp_gateway.settings import LimitSettings
    from mcp_gateway.views.publisher import Publisher
    from mcp_gateway.views.view import MessageFormat, View
    from mcp_gateway.views.views import Views

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

    def request(self, data: bytes) -> Request:
        """The request that these bytes are.

        Raises:
            ProtocolError: they are none.
        """
        try:
            return self.parse(data)
        except Exception as error:  # protobuf's errors differ between its implementations
            raise ProtocolError(f"not a request of this protocol: {str(error)[:200]}") from error


@dataclass(slots=True, eq=False)
class Stream(Generic[Request]):
    """One peer's stream: its view is chosen by its first request.

    Reading and writing go on side by side. A peer that reads slowly keeps only its own stream waiting, with one
    message per collection; one that neither reads nor answers for too long is let go. Large pushes wait for room
    among those of all streams.
    """

    dialect: Dialect[Request]
    peer: Recipient
    identities: Sequence[str]
    views: Views
    trail: DeliveryTrail
    limits: LimitSettings
    in_flight: InFlight
    kept: KeptBytes = field(default_factory=KeptBytes)
    session: Session[Request] = field(init=False)
    books: Books = field(init=False)
    _publisher: Publisher | None = None
    _noted: dict[str, None] = field(default_factory=dict)
    _due: deque[Push] = field(default_factory=deque)
    _idle: asyncio.Future[None] | None = None
    _over: Exception | None = None
    _is_closed: bool = False
    _sending: Push | None = None
    _sending_since: float = 0.0
    _task: asyncio.Task[Any] | None = None
    _is_let_go: bool = False
    _counted: int = 0

    def __post_init__(self) -> None:
        self.session = self.dialect.session()
        self.books = Books(self.peer, self.trail)

    @property
    def watches(self) -> Watches:
        """What the peer watches."""
        return self.session.watches

    async def run(self, wire: Wire) -> None:
        """Serves until the peer ends the stream.

        Raises:
            GatewayError: it ends for another reason; the text is for the peer.
        """
        self._task = task = asyncio.current_task()
        try:
            await self._serve(wire)
        except asyncio.CancelledError:
            if task is not None and task.cancelling() > self._is_let_go:
                raise
            raise self._over or CallLostError("the call was cancelled") from None
        finally:
            if self._is_let_go and task is not None:
                task.uncancel()  # for the owner it is an end like any other, and no wish to stop
            self._count_kept(0)

    async def _serve(self, wire: Wire) -> None:
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
            with publisher.followed_by(self):
                await self._write_all(wire, publisher.view)
        finally:
            reader.cancel()
            self.in_flight.leave(self)
            for push in self._due:
                self.in_flight.give_back(len(push.message))

    @property
    def view(self) -> View | None:
        """What the peer sees, once that is chosen."""
        return None if self._publisher is None else self._publisher.view

    @property
    def kept_bytes(self) -> int:
        """What is kept because the peer named or stated it, as it was counted last."""
        return self._counted

    def changed(self, collections: dict[str, None]) -> None:
        """These collections have new versions; what is noted several times is one push.

        What is due is made here where the writer waits for it, so that nothing but the write is left when the loop
        comes to that. Work between two streams' writes costs twice: their peers are woken one by one instead of
        together (`python -m bench fanout`).
        """
        self._noted.update(collections)
        self._wake_if_due()

    def room(self) -> None:
        """There is room for a large push."""
        self._wake_if_due()

    def let_go_if_stalled(self, now: float) -> None:
        """Ends the stream when a push was not read, or not answered, for longer than the limit.

        Called now and then for every stream: a timer for each push would cost a tenth of the push.
        """
        sending, limits = self._sending, self.limits
        if sending is not None and now - self._sending_since > (limit := self._reading_limit(sending)):
            self._over = UnreadError(f"a push of {len(sending.message)} bytes was not read in {limit:g} s")
            if self._task is not None and not self._is_let_go:
                self._is_let_go = True
                self._task.cancel()
        elif self.books.unanswered_since is not None and now - self.books.unanswered_since > limits.stalled_s:
            self._end(StalledError(f"no answer to a push in {limits.stalled_s:g} s"))

    def failed(self, error: Exception) -> None:
        """Ends the stream because of a fault in what is done for it elsewhere; the stream's owner hears of it."""
        self._end(error)

    def leave(self) -> None:
        """The gateway is going: the stream ends after what it is sending."""
        self._end(StoppingError("this gateway stops; connect to another one"))

    def _choose(self) -> Publisher:
        found = self.views.choose(self.identities, self.session.node.facts)
        if found is None:
            raise NotAllowedError("no view is meant for your identity or node")
        self.peer.view = found.view.name
        for watch in self.watches:
            self._watch(found.view, watch.collection)
        self.session.node = Node(self.session.node.id)
        return found

    def _watch(self, view: View, collection: str) -> None:
        view.watch(collection)
        self.books.asked_for(collection, view)

    def _count_kept(self, size: int) -> None:
        """Counts what is kept for the peer; raises TooMuchError."""
        if size != self._counted:
            self.kept.change(peer_name(self.identities, self.peer.address), size - self._counted)
            self._counted = size

    async def _read_all(self, wire: Wire) -> None:
        pace = Pace(self.limits.requests_per_s, self.limits.requests_per_s * 2)
        try:
            while (data := await wire.read()) is not grpc.aio.EOF:
                if self._take(data) and (wait_s := pace.wait_s()) > 0:
                    await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            if is_cancellation_requested():
                raise
            self._end(CallLostError("the call was cancelled while it was read"))
        except Exception as error:  # noqa: BLE001 - raised again by the writer, which owns the stream
            self._end(error)
        else:
            self._is_closed = True
            self._wake()

    def _take(self, data: bytes) -> bool:
        """Takes a request; whether it counts against the peer's pace.

        An acknowledgement that asks for nothing doesn't: there are no more of them than pushes. Nothing else is
        bounded by what the gateway does.
        """
        received = self.session.receive(self.dialect.request(data))
        self.peer.node = self.session.node.id
        view = self.view
        if view is not None and self.session.node.metadata:  # it has chosen the view, and is of no more use
            self.session.node = Node(self.session.node.id)
        if received is None:
            return True
        watch, answer = received.watch, received.answer
        if watch.kept or self._counted:
            self._count_kept(self.watches.kept)
        self.books.received(received, view)
        if view is not None:
            if answer is Answer.INITIAL:
                self._watch(view, watch.collection)
            if watch.pending is not None or watch.is_settled(view.version(watch.collection)):
                return answer is not Answer.ACK
        self._noted[watch.collection] = None
        self._wake_if_due()
        return True

    async def _write_all(self, wire: Wire, view: View) -> None:
        loop = asyncio.get_running_loop()
        while self._over is None:
            if self._due or (self._noted and self._make_due(view)):
                await self._write(wire, self._due.popleft())
            elif self._is_closed and not self._noted:
                return
            else:
                self._idle = idle = loop.create_future()
                await idle
        raise self._over

    def _make_due(self, view: View) -> bool:
        """Makes the pushes that are due of the first collection that has some; whether there are any.

        Of one collection and not of all that are noted: a peer that reads slowly gets of each the version that is
        the latest when its turn comes. What has to wait for room stays noted.
        """
        watches = self.watches
        for collection in list(self._noted):
            if self._due:
                break
            if self._waits_for_room(collection, view):
                continue
            del self._noted[collection]
            for watch in watches.due_in(collection, view.version(collection)):
                message = watch.message(view, self.dialect.message_format)
                if message is not None:
                    self.in_flight.take(len(message))
                    self._due.append(Push(watch, watch.pending or "", message, view.folded_to))
        if self._counted:
            self._count_kept(watches.kept)
        if watches.waited:
            metrics.COALESCED.labels(view.name).inc(watches.waited)
            watches.waited = 0
        return bool(self._due)

    def _reading_limit(self, push: Push) -> float:
        """Seconds; fewer for a large push that keeps others waiting."""
        limits = self.limits
        if len(push.message) >= LARGE and self.in_flight.waiting:
            return min(limits.in_the_way_s, limits.stalled_s)
        return limits.stalled_s

    def _waits_for_room(self, collection: str, view: View) -> bool:
        waits = self.in_flight.is_full and self.watches.await_more(LARGE, collection, view)
        if waits:
            self.in_flight.wait(self)
        return waits

    async def _write(self, wire: Wire, push: Push) -> None:
        self.books.handed_over(push)
        self._sending, self._sending_since = push, time.monotonic()
        try:
            await wire.write(push.message)
        except (asyncio.CancelledError, grpc.aio.BaseError):  # the latter: the peer is gone
            metrics.SEND_FAILURES.inc()
            raise
        finally:
            self._sending = None
            try:
                self.books.sent()
            finally:
                self.in_flight.give_back(len(push.message))

    def _end(self, error: Exception) -> None:
        self._over = error
        self._wake()

    def _wake_if_due(self) -> None:
        """Wakes the writer, if it waits and there is something for it."""
        if self._idle is None or self._publisher is None:
            return
        try:
            is_due = self._make_due(self._publisher.view)
        except Exception as error:  # noqa: BLE001 - raised again by the writer, which owns the stream
            self._end(error)
        else:
            if is_due:
                self._wake()

    def _wake(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and not idle.done():
            idle.set_result(None)
