"""No task and no thread of a process ends without its owner hearing of it."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from runtime import supervision
from runtime.backoff import Backoff
from runtime.errors import PartFailedError
from runtime.supervision import Supervisor, is_cancellation_requested

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def raises() -> None:
    """Ends with an exception."""
    raise ValueError("a fault")


async def returns() -> None:
    """Ends at once."""


async def is_cancelled_by_what_it_waits_for() -> None:
    """Ends with a cancellation that nobody requested."""
    call = asyncio.get_running_loop().create_future()
    call.cancel()
    await call


@pytest.mark.parametrize("run", [raises, returns, is_cancelled_by_what_it_waits_for])
def test_each_end_of_a_task_ends_the_process(run: Callable[[], Awaitable[None]]) -> None:
    """An exception, a return, and a cancellation that nobody requested."""

    async def process() -> None:
        supervisor = Supervisor()
        supervisor.task("worker", run)
        await supervisor.wait(asyncio.Event())

    with pytest.raises(PartFailedError, match="the worker ended"):
        asyncio.run(process())


def test_a_task_that_is_cancelled_by_its_owner_is_no_failure() -> None:
    """Cancelling the task is the way to ask it to end."""

    async def process() -> Supervisor:
        supervisor = Supervisor()
        task = supervisor.task("worker", asyncio.Event().wait)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return supervisor

    assert asyncio.run(process()).fault is None


@pytest.mark.parametrize("ending", [raises, returns, is_cancelled_by_what_it_waits_for])
def test_a_task_that_may_be_restarted_is(ending: Callable[[], Awaitable[None]]) -> None:
    """However it ended; meanwhile it is listed as down, and the process is healthy."""

    async def process() -> None:
        supervisor, runs, again = Supervisor(), 0, asyncio.Event()

        async def run() -> None:
            nonlocal runs
            runs += 1
            if runs == 1:
                await ending()
                return
            again.set()
            await asyncio.Event().wait()

        task = supervisor.task("worker", run, restart=Backoff(0.05, 0.05))
        while not supervisor.down:  # noqa: ASYNC110 - the state under test
            await asyncio.sleep(0)
        assert not supervisor.unhealthy
        await again.wait()
        assert not supervisor.down
        assert supervisor.fault is None
        task.cancel()

    asyncio.run(process())


def test_a_thread_that_ends_is_heard_of_on_the_event_loop() -> None:
    """The process's wait ends with the failure, and `/healthz` names the thread."""

    def run() -> None:
        raise OSError("gone")

    async def process(supervisor: Supervisor) -> None:
        supervisor.thread("reader", run).start()
        await supervisor.wait(asyncio.Event())

    supervisor = Supervisor()
    with pytest.raises(PartFailedError, match=r"reader ended .*OSError: gone"):
        asyncio.run(process(supervisor))
    assert "gone" in supervisor.unhealthy["reader"]


def test_a_failure_before_the_wait_is_not_missed() -> None:
    """A thread may fail while the process is still starting."""

    async def process() -> None:
        supervisor = Supervisor()
        thread = supervisor.thread("reader", lambda: None)
        thread.start()
        thread.join(5)
        await supervisor.wait(asyncio.Event())

    with pytest.raises(PartFailedError):
        asyncio.run(process())


def test_a_thread_whose_end_is_wanted_may_return_but_not_raise() -> None:
    """An exception while stopping is a failure all the same."""
    supervisor, stop = Supervisor(), threading.Event()
    good = supervisor.thread("good", lambda: stop.wait() and None)
    good.start()
    good.end()
    stop.set()
    good.join(5)
    assert supervisor.fault is None
    bad = supervisor.thread("bad", lambda: next(iter(())))
    bad.end()
    bad.start()
    bad.join(5)
    assert supervisor.fault is not None


def test_a_loop_that_makes_no_turn_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever blocks an event loop, the admin thread says so."""
    supervisor = Supervisor()
    supervisor.turned("event loop")
    assert not supervisor.unhealthy
    now = time.monotonic()
    monkeypatch.setattr(supervision.time, "monotonic", lambda: now + supervision.STUCK_AFTER_S + 1)
    assert "no turn" in supervisor.unhealthy["event loop"]


def test_a_requested_cancellation_is_told_from_one_that_is_not() -> None:
    """`is_cancellation_requested` is about the running task, not about what it waits for."""

    async def judge(seen: list[bool]) -> None:
        try:
            await is_cancelled_by_what_it_waits_for()
        except asyncio.CancelledError:
            seen.append(is_cancellation_requested())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(is_cancellation_requested())

    async def process() -> list[bool]:
        seen: list[bool] = []
        task = asyncio.create_task(judge(seen))
        while not seen:  # noqa: ASYNC110 - the state under test
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return seen

    assert asyncio.run(process()) == [False, True]
