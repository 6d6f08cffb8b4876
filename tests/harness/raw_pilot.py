"""A Pilot's stream that acknowledges only when it is told to: for peers that are slow, wrong or gone."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, Self

import grpc

from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources
from tests.harness.resources import SERVICE_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

METHOD = "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream"


class RawPilot:
    """An MCP sink over one connection; `next` blocks until a push comes or the stream ends."""

    def __init__(self, address: str, *, options: list[tuple[str, Any]] | None = None) -> None:
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), *(options or [])]
        )
        call = self._channel.stream_stream(METHOD, response_deserializer=Resources.FromString)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._call = call(self._sent())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sent(self) -> Iterator[bytes]:
        while (request := self._requests.get()) is not None:
            yield request

    def send(self, data: bytes) -> None:
        """Any bytes as a request."""
        self._requests.put(data)

    def ask(self, nonce: str = "", **fields: Any) -> None:
        """A request for service entries, or the acknowledgement of a push of them."""
        request = RequestResources(collection=SERVICE_ENTRIES, response_nonce=nonce, **fields)
        self.send(request.SerializeToString())

    def next(self) -> Resources:
        """The next push."""
        return next(self._call)  # type: ignore[no-any-return]

    def code(self) -> grpc.StatusCode:
        """How the stream ended; blocks until it has."""
        return self._call.code()  # type: ignore[no-any-return]

    def details(self) -> str:
        """What the gateway said of it."""
        return self._call.details()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends it."""
        self._requests.put(None)
        self._call.cancel()
        self._channel.close()
