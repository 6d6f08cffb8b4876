"""One gRPC connection: its end is an error to whoever waits for it, and nothing that it reads ends it silently."""

from __future__ import annotations

import asyncio
from functools import wraps
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from producers.errors import NacosRefusedError, NacosUnavailableError
from producers.nacos.connection import Endpoint, NacosConnection
from producers.nacos.payload import GARBAGE, Envelope
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

KEY = ("public", "DEFAULT_GROUP", "svc")
SUBSCRIBE = {"namespace": "public", "groupName": "DEFAULT_GROUP", "serviceName": "svc", "subscribe": True}


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """The test on an event loop of its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))  # type: ignore[arg-type]

    return run


@pytest.fixture
def nacos() -> Iterator[FakeNacos]:
    """A server with one service."""
    with FakeNacos() as server:
        server.state("public", "svc", [host()])
        yield server


async def connect(nacos: FakeNacos, on_push: Callable[[Envelope], None] = lambda _: None) -> NacosConnection:
    """A connection that is set up."""
    endpoint = Endpoint(f"127.0.0.1:{nacos.port + 1000}")
    return await NacosConnection(endpoint, namespace="public", on_push=on_push).open()


@in_loop
async def test_a_call_in_flight_when_the_connection_is_closed_is_unavailable(nacos: FakeNacos) -> None:
    """gRPC cancels it, and would raise CancelledError in a task that nobody cancelled."""
    connection = await connect(nacos)
    nacos.registry.faults.silent = True
    calls = [asyncio.create_task(connection.request("SubscribeServiceRequest", SUBSCRIBE)) for _ in range(3)]
    await asyncio.sleep(0.2)
    await connection.close()
    for call in calls:
        with pytest.raises(NacosUnavailableError, match="connection_ended"):
            await call
    with pytest.raises(NacosUnavailableError, match="connection_ended"):
        await connection.request("SubscribeServiceRequest", SUBSCRIBE)
    nacos.registry.faults.silent = False


@in_loop
async def test_a_task_that_is_cancelled_is_cancelled(nacos: FakeNacos) -> None:
    """By its owner, and by a time-out."""
    connection = await connect(nacos)
    nacos.registry.faults.silent = True
    call = asyncio.create_task(connection.request("SubscribeServiceRequest", SUBSCRIBE))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await connection.request("SubscribeServiceRequest", SUBSCRIBE)
    nacos.registry.faults.silent = False
    await connection.close()


@in_loop
async def test_an_exception_in_a_push_is_told_as_garbage_and_the_next_is_read(nacos: FakeNacos) -> None:
    """The connection stands."""
    heard: list[Envelope] = []
    two_are_there = asyncio.Event()

    def on_push(message: Envelope) -> None:
        heard.append(message)
        if len(heard) == 3:
            two_are_there.set()
        if len(heard) == 1:
            raise ZeroDivisionError("a fault of ours")

    connection = await connect(nacos, on_push)
    await connection.request("SubscribeServiceRequest", SUBSCRIBE)
    nacos.call(nacos.grpc.push, KEY, times=2)
    async with asyncio.timeout(5):
        await two_are_there.wait()
    assert [message.type for message in heard] == ["NotifySubscriberRequest", GARBAGE, "NotifySubscriberRequest"]
    assert "a fault of ours" in heard[1].body["error"]
    assert not connection.ended.done()
    await connection.close()


@pytest.mark.parametrize("error", [ZeroDivisionError("a fault of ours"), asyncio.CancelledError()])
def test_a_reader_that_ends_ends_the_connection(error: BaseException, nacos: FakeNacos) -> None:
    """Whatever ended it: nobody goes on with a connection whose pushes are not read."""

    @in_loop
    async def run() -> None:
        connection = await connect(nacos)

        async def fail(_: bytes) -> None:
            raise error

        connection._handle = fail  # type: ignore[method-assign]
        await connection.request("SubscribeServiceRequest", SUBSCRIBE)
        nacos.call(nacos.grpc.push, KEY)
        async with asyncio.timeout(5):
            ending = await connection.ended
        assert ending.cause in {"reader_failed", "stream_cancelled"}
        await connection.close()

    run()


@in_loop
async def test_requests_name_the_server_as_the_settings_do(nacos: FakeNacos) -> None:
    """A proxy in front of several servers knows them by name."""
    endpoint = Endpoint(f"127.0.0.1:{nacos.port + 1000}", authority="nacos.example:9848")
    connection = await NacosConnection(endpoint, namespace="public", on_push=lambda _: None).open()
    await connection.request("HealthCheckRequest", {})
    await connection.close()


@in_loop
async def test_a_call_that_ends_with_a_status_is_about_what_was_asked_for(nacos: FakeNacos) -> None:
    """An answer that is too large, or an interceptor's fault: the connection stands, other calls are answered."""
    connection = await connect(nacos)
    for code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED):
        error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="of this call")
        assert isinstance(connection._failed("SubscribeServiceRequest", error), NacosRefusedError)
    gone = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), details="x")
    assert isinstance(connection._failed("SubscribeServiceRequest", gone), NacosUnavailableError)
    await connection.close()
    assert isinstance(connection._failed("SubscribeServiceRequest", error), NacosUnavailableError)
