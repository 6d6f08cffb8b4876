"""The owner of a process's parts: its tasks and threads.

A part that ends without being asked to is a failure, however it ended: by an exception, by returning, or by a
cancellation that its owner did not request. Closing a gRPC channel, for example, raises `CancelledError` in each
task that waits for one of its calls. A failed part is started again after a pause if it may be; else the process
ends, so that its supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runtime import metrics
from runtime.errors import PartFailedError, ShellError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.backoff import Backoff

_log = structlog.get_logger()

_TURN_S = 1.0
STUCK_AFTER_S = 60.0
"""A loop that has not turned for so long is reported by `/healthz`."""


@dataclass(slots=True)
class _Part:
    """A part: whether it was asked to end, and why it does not run, if it does not."""

    name: str
    is_stopping: bool = False
    down: str = ""


class Supervisor:
    """Starts parts, hears of their ends, and holds the first failure that ends the process.

    `task` and `wait` belong to one event loop; everything else may be called on any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, _Part] = {}
        self._loops: dict[str, float] = {}
        self._fault: PartFailedError | None = None
        self._on_fault: list[Callable[[], None]] = []

    def task(
        self, name: str, run: Callable[[], Awaitable[None]], *, restart: Backoff | None = None
    ) -> asyncio.Task[None]:
        """Starts a task on the running loop. Cancelling the returned task is the way to ask it to end.

        With `restart` a failure is logged, counted, and the part started again after a pause. Without, the first
        failure ends the process.
        """
        part = self._add(name)
        task = asyncio.get_running_loop().create_task(self._run(part, run, restart), name=name)
        task.add_done_callback(lambda _: self._remove(part))
        return task

    def thread(self, name: str, run: Callable[[], None]) -> SupervisedThread:
        """A daemon thread, not started yet. A failure ends the process, unless `end` was called before."""
        return SupervisedThread(self, self._add(name), run)

    def fail(self, name: str, error: BaseException) -> None:
        """Ends the process because of a part that is watched by other means, such as a callback."""
        self._report(_Part(name), error, ends_process=True)

    def turned(self, loop: str) -> None:
        """A loop made a turn. `/healthz` reports it once it makes none for `STUCK_AFTER_S`."""
        self._loops[loop] = time.monotonic()

    def forget_loop(self, loop: str) -> None:
        """The loop ended as it should."""
        self._loops.pop(loop, None)

    @property
    def fault(self) -> PartFailedError | None:
        """The failure that ends the process, if there is one."""
        return self._fault

    @property
    def down(self) -> dict[str, str]:
        """Parts that wait to be started again, with the reason; for operators."""
        with self._lock:
            return {part.name: part.down for part in self._parts.values() if part.down}

    @property
    def unhealthy(self) -> dict[str, str]:
        """The reasons, by part, for which the process should be started anew; empty when there are none."""
        found = {} if self._fault is None else {self._fault.part: str(self._fault)}
        for loop, turned_at in list(self._loops.items()):
            silent_s = time.monotonic() - turned_at
            if silent_s > STUCK_AFTER_S:
                found[loop] = f"made no turn for {silent_s:.0f} s"
        return found

    async def wait(self, stop: asyncio.Event) -> None:
        """Waits until `stop` is set; the event loop's turns are noted meanwhile.

        Raises:
            PartFailedError: a part failed that ends the process.
        """
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(woken.set)

        stopped = loop.create_task(stop.wait())
        stopped.add_done_callback(lambda _: woken.set())
        with self._lock:
            self._on_fault.append(wake)
            if self._fault is not None:
                woken.set()
        try:
            while not woken.is_set():
                self.turned("event loop")
                try:
                    async with asyncio.timeout(_TURN_S):
                        await woken.wait()
                except TimeoutError:
                    continue
        finally:
            stopped.cancel()
            self.forget_loop("event loop")
            with self._lock:
                self._on_fault.remove(wake)
        self.raise_fault()

    def raise_fault(self) -> None:
        """Raises the failure that ends the process, if there is one."""
        if self._fault is not None:
            raise self._fault

    async def _run(self, part: _Part, run: Callable[[], Awaitable[None]], restart: Backoff | None) -> None:
        while True:
            started = time.monotonic()
            error: BaseException | None = None
            try:
                await run()
            except asyncio.CancelledError as cancelled:
                if is_cancellation_requested():
                    raise
                error = cancelled
            except Exception as raised:  # noqa: BLE001 - whatever it is, the part has ended
                error = raised
            self._report(part, error, ends_process=restart is None)
            if restart is None:
                return
            pause_s = restart.pause_s(time.monotonic() - started)
            await asyncio.sleep(pause_s)
            part.down = ""
            metrics.PART_RESTARTS.labels(part.name).inc()

    def _report(self, part: _Part, error: BaseException | None, *, ends_process: bool) -> None:
        """Notes the end of a part that nobody asked to end."""
        reason = _reason(error)
        part.down = reason
        metrics.PART_FAILURES.labels(part.name).inc()
        trace = None if isinstance(error, ShellError) else error
        _log.error("part_failed", part=part.name, reason=reason, ends_process=ends_process, exc_info=trace)
        if not ends_process:
            return
        with self._lock:
            if self._fault is None:
                self._fault = PartFailedError(part.name, reason)
                self._fault.__cause__ = error
            waiting = list(self._on_fault)
        for wake in waiting:
            wake()

    def _add(self, name: str) -> _Part:
        part = _Part(name)
        with self._lock:
            # Several parts of one kind share a name, as one metric's label does; the registry keeps each.
            self._parts[f"{name}-{id(part)}"] = part
        return part

    def _remove(self, part: _Part) -> None:
        with self._lock:
            self._parts.pop(f"{part.name}-{id(part)}", None)


class SupervisedThread:
    """A daemon thread whose end is reported to a `Supervisor`."""

    def __init__(self, supervisor: Supervisor, part: _Part, run: Callable[[], None]) -> None:
        self._supervisor = supervisor
        self._part = part
        self._run = run
        self._thread = threading.Thread(target=self._watched, name=part.name, daemon=True)

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def end(self) -> None:
        """Says that its end is wanted from now on; how it learns of that is its own affair."""
        self._part.is_stopping = True

    def join(self, timeout: float | None = None) -> None:
        """Waits for its end; returns at once if it was never started or is the calling thread."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def _watched(self) -> None:
        error: BaseException | None = None
        try:
            self._run()
        except BaseException as raised:  # noqa: BLE001 - a thread has nobody above it who would see this
            error = raised
        if error is not None or not self._part.is_stopping:
            self._supervisor._report(self._part, error, ends_process=True)  # noqa: SLF001 - the same room
        self._supervisor._remove(self._part)  # noqa: SLF001


def is_cancellation_requested() -> bool:
    """Whether the running task was asked to end.

    A `CancelledError` comes without such a request when something that the task waits for was cancelled by itself.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _reason(error: BaseException | None) -> str:
    match error:
        case None:
            return "it ended without being asked to"
        case asyncio.CancelledError():
            return "it was cancelled without being asked to end"
        case ShellError():
            return str(error)
        case _:
            return f"{type(error).__name__}: {error}"
