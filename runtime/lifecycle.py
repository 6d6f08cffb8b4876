"""A process from start to end: logs, signals, readiness."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runtime.settings import LogSettings

FORCED_EXIT_CODE = 130
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def configure_logging(settings: LogSettings, process: str) -> None:
    """Sends structlog's and the standard library's logs to stderr, in one form.

    Traces come without the values of variables: these may be secrets, or a whole registry.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.format == "json":
        traces = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared += [structlog.processors.ExceptionRenderer(traces), structlog.processors.JSONRenderer()]
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        shared.append(renderer)
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr)


@dataclass(slots=True)
class Readiness:
    """The conditions that a process waits for before it may be used, and what of its data is stale.

    A process that is ready and stale goes on working with the last good data. An entry is written by its owner and
    read by the admin server's thread; setting a dict entry is atomic.
    """

    _conditions: dict[str, str] = field(default_factory=dict)
    _stale: dict[str, str] = field(default_factory=dict)

    def wait_for(self, condition: str, detail: str) -> None:
        """The process is not ready, for this reason."""
        self._conditions[condition] = detail

    def met(self, condition: str) -> None:
        """The condition holds."""
        self._conditions.pop(condition, None)

    def mark_stale(self, source: str, detail: str) -> None:
        """The data from this source is old, for this reason."""
        self._stale[source] = detail

    def mark_fresh(self, source: str) -> None:
        """The data from this source is up to date again."""
        self._stale.pop(source, None)

    @property
    def stale(self) -> dict[str, str]:
        """The sources whose data is old, with the reason."""
        return dict(self._stale)

    @property
    def missing(self) -> dict[str, str]:
        """What is waited for, by condition; empty when ready."""
        return dict(self._conditions)


def tune_garbage_collector() -> None:
    """Makes the cyclic garbage collector look seldom.

    The processes hold millions of small objects in trees without cycles. With Python's thresholds the
    collector walks them again and again, for a third of the time of a busy fold (`python -m bench fold`).
    """
    gc.set_threshold(100_000, 50, 100)


def keep_freed_memory() -> None:
    """Makes glibc's allocator keep up to 256 MiB that are freed, for the next large message.

    By default it gives them back to the system at once, and each page of the next message is a page fault: a push
    of 10 MB took three times as long (`python -m bench fanout`). Does nothing with another C library.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 1024 * 1024)  # the largest that it takes
        libc.mallopt(_M_TRIM_THRESHOLD, 256 * 1024 * 1024)


def settle_memory() -> None:
    """What is held now stays: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def run_async(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs an asynchronous process until it ends, or until SIGTERM or SIGINT sets its stop event.

    A second signal ends the process at once.
    """

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: _stop_or_exit(stop))
        await main(stop)

    uvloop.run(supervised())


def run_threaded(main: Callable[[threading.Event], None]) -> None:
    """Runs a plain loop on the main thread until it ends, or until SIGTERM or SIGINT sets its stop event.

    A second signal ends the process at once.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop_or_exit(stop))
    main(stop)


def _stop_or_exit(stop: asyncio.Event | threading.Event) -> None:
    if stop.is_set():
        os._exit(FORCED_EXIT_CODE)
    stop.set()
