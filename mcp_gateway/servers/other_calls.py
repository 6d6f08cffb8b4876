"""Bounds the streams that are not Pilots': health watches and reflection. Belongs to the event loop.

They need no identity and never end by themselves. Unbounded, one peer's could take all of the server's calls, and
no Pilot would get in.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from mcp_gateway.servers.admission import peer_name
from mcp_gateway.servers.credentials import identities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

MAX_CALLS = 1000
MAX_CALLS_OF_A_PEER = 20


class OtherCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Counts streaming calls of all services but `served`, by peer and in all; more get RESOURCE_EXHAUSTED."""

    def __init__(self, *served: str) -> None:
        self._served = tuple(f"/{service}/" for service in served)
        self._open: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> grpc.RpcMethodHandler:
        """The call's handler, bounded if it is one of those."""
        handler = await continuation(details)
        if handler is None or not handler.response_streaming or details.method.startswith(self._served):
            return handler
        name = "stream_stream" if handler.request_streaming else "unary_stream"
        return _Handler(**_facts(handler) | {name: self._bounded(getattr(handler, name))})

    def _bounded(self, behavior: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(behavior):

            async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
                with self._counted(context) as fault:
                    if fault:
                        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, fault)
                    async for response in behavior(request, context):
                        yield response

            return generate

        async def serve(request: Any, context: Any) -> None:
            with self._counted(context) as fault:
                if fault:
                    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, fault)
                await behavior(request, context)

        return serve

    @contextmanager
    def _counted(self, context: Any) -> Iterator[str]:
        """Counts a call until it ends; the reason for which it is refused, or an empty text."""
        peer = peer_name(identities(context.auth_context()), context.peer())
        if self._open[peer] >= MAX_CALLS_OF_A_PEER or self._open.total() >= MAX_CALLS:
            yield "too many health watches and reflection calls"
            return
        self._open[peer] += 1
        try:
            yield ""
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Handler(grpc.RpcMethodHandler):  # type: ignore[misc]
    """A method's handler with another behavior."""

    request_streaming: bool
    response_streaming: bool
    request_deserializer: Any
    response_serializer: Any
    unary_unary: Any = None
    unary_stream: Any = None
    stream_unary: Any = None
    stream_stream: Any = None


def _facts(handler: Any) -> dict[str, Any]:
    return {field.name: getattr(handler, field.name) for field in dataclasses.fields(_Handler)}
