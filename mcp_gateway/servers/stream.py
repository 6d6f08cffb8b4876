"""Drives one session over one gRPC stream, whatever its protocol."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError

from mcp_gateway import metrics
from mcp_gateway.deliveries import Recipient
from mcp_gateway.errors import FellBehindError, ProtocolError
from mcp_gateway.servers.credentials import identities
from mcp_gateway.sessions.watch import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mcp_gateway.deliveries import DeliveryTrail
    from mcp_gateway.publisher import Publisher
    from mcp_gateway.sessions.session import Received, Watches
    from mcp_gateway.view import MessageFormat

_log = structlog.get_logger()

Request = TypeVar("Request")
Request_contra = TypeVar("Request_contra", contravariant=True)


class Session(Protocol[Request_contra]):
    """A protocol's state machine."""

    node: str
    watches: Watches

    def receive(self, request: Request_contra) -> Received | None:
        """Takes a request; raises ProtocolError."""


@dataclass(slots=True)
class StreamStatus:
    """A stream as an operator sees it."""

    peer: Recipient
    opened_at: float = field(default_factory=time.time)
    watches: Watches | None = None
    latency_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; read from the admin thread."""
        return {
            "peer": self.peer.address,
            "protocol": self.peer.protocol,
            "identity": self.peer.identity,
            "node": self.peer.node,
            "connected_s": round(time.time() - self.opened_at, 1),
            "push_to_ack_ms": None if self.latency_s is None else round(self.latency_s * 1000, 1),
            "collections": {
                watch.asked_as: {
                    "acknowledged": watch.acknowledged,
                    "pending": watch.pending,
                    "refused": watch.refused,
                }
                for watch in list(self.watches or ())
            },
        }


class StreamServer(Generic[Request]):
    """Serves streams of one protocol.

    A stream waits for two things, the peer's next request and a change of the view; everything else follows
    from its session. A peer that reads slowly keeps only its own stream waiting.
    """

    def __init__(
        self,
        *,
        protocol: str,
        publisher: Publisher,
        session: Callable[[], Session[Request]],
        message_format: MessageFormat,
        parse: Callable[[bytes], Request],
        max_streams: int,
        streams: dict[int, StreamStatus],
        trail: DeliveryTrail,
        allowed: Sequence[str] = (),
    ) -> None:
        self._allowed = allowed
        self._trail = trail
        self._protocol = protocol
        self._publisher = publisher
        self._session = session
        self._format = message_format
        self._parse = parse
        self._max_streams = max_streams
        self._streams = streams

    async def serve(self, _: object, context: Any) -> None:
        """Handles a stream until the peer ends it or breaks the protocol."""
        if len(self._streams) >= self._max_streams:
            metrics.REFUSED_STREAMS.labels("too_many_streams").inc()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams on this gateway")
        known_as = identities(context.auth_context())
        if self._allowed and not any(fnmatchcase(name, one) for name in known_as for one in self._allowed):
            metrics.REFUSED_STREAMS.labels("identity").inc()
            _log.warning(
                "stream refused: its identity is not allowed", peer=context.peer(), identities=known_as[:5]
            )
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "your certificate's identity is not allowed here"
            )
        status = StreamStatus(Recipient(context.peer(), self._protocol, known_as[0] if known_as else ""))
        self._streams[id(status)] = status
        metrics.STREAMS.labels(self._protocol).inc()
        metrics.CLIENTS.labels("shiplog").inc()
        _log.info("stream opened", peer=status.peer.address, protocol=self._protocol)
        try:
            await self._run(context, status)
        except (ProtocolError, DecodeError) as error:
            _log.warning("stream refused", peer=status.peer.address, protocol=self._protocol, error=str(error))
            metrics.REFUSED_STREAMS.labels("protocol").inc()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except FellBehindError as error:
            _log.warning("stream fell behind", peer=status.peer.address, protocol=self._protocol, error=str(error))
            metrics.REFUSED_STREAMS.labels("fell_behind").inc()
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        finally:
            del self._streams[id(status)]
            metrics.STREAMS.labels(self._protocol).dec()
            metrics.CLIENTS.labels("shiplog").dec()
            _log.info("stream closed", peer=status.peer.address, protocol=self._protocol)

    async def _run(self, context: Any, status: StreamStatus) -> None:
        session = self._session()
        status.watches = session.watches
        with self._publisher.subscribed() as changed:
            request = asyncio.ensure_future(context.read())
            change = asyncio.ensure_future(changed.wait())
            try:
                while True:
                    await asyncio.wait({request, change}, return_when=asyncio.FIRST_COMPLETED)
                    if request.done():
                        data = request.result()
                        if data is grpc.aio.EOF:
                            return
                        request = asyncio.ensure_future(context.read())
                        self._take(session, self._parse(data), status)
                    if change.done():
                        changed.clear()
                        change = asyncio.ensure_future(changed.wait())
                    await self._push(context, session, status)
            finally:
                request.cancel()
                change.cancel()

    def _take(self, session: Session[Request], request: Request, status: StreamStatus) -> None:
        received = session.receive(request)
        status.peer.node = session.node
        if received is None:
            return
        collection = received.watch.collection
        match received.answer:
            case Answer.ACK:
                metrics.REQUEST_ACKS.labels(collection).inc()
                self._trail.acknowledged(status.peer, collection, received.version or "")
                if received.version == self._publisher.view.version(collection):
                    self._note_latency(collection, status)
            case Answer.NACK:
                metrics.REQUEST_NACKS.labels(collection, str(received.code)).inc()
                self._trail.refused(
                    status.peer, collection, received.version or "", received.code, received.message
                )
                _log.warning(
                    "push refused by the peer", peer=status.peer.address, collection=collection,
                    version=received.version, code=received.code, message=received.message[:500],
                )  # fmt: skip
            case Answer.STALE:
                metrics.STALE_NONCES.inc()
            case Answer.INITIAL | Answer.SUBSCRIPTION:
                pass

    def _note_latency(self, collection: str, status: StreamStatus) -> None:
        """From Nacos's push to this acknowledgement; a peer's first push is old content and does not count."""
        observed_at = self._publisher.view.observed_at(collection) / 1e6
        if observed_at > status.opened_at:
            status.latency_s = time.time() - observed_at
            metrics.PUSH_TO_ACK.labels(self._protocol).observe(status.latency_s)

    async def _push(self, context: Any, session: Session[Request], status: StreamStatus) -> None:
        view = self._publisher.view
        for watch in session.watches.due(view.version):
            message = watch.message(view, self._format)
            if message is None:
                continue
            metrics.MESSAGE_SIZES.labels(watch.collection).observe(len(message))
            version, folded_to = watch.pending or "", view.folded_to
            try:
                await context.write(message)
            except asyncio.CancelledError:
                metrics.SEND_FAILURES.inc()
                raise
            self._trail.sent(status.peer, watch.collection, version, len(message), folded_to)
