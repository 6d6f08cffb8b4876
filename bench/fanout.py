"""Rounds of pushes to many streams, against a bare grpc.aio server that sends the same bytes.

Each server is a process of its own, and so are the clients. A round is over when every client has acknowledged.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.fanout_server import SHAPES
from shiplog.local_stack.child import Child
from tests.harness.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ROUND = 6_000_000_000
"""Bytes of one round: the clients hold twice as much, as they are slower than the servers."""

_TURNS = 5


def run(*, quick: bool) -> None:
    """Prints pushes a second of both, and their ratio, for each size and number of streams."""
    for shape, size in SHAPES.items():
        for streams in (1, 10) if quick else (1, 10, 100, 1000):
            if size * streams > MAX_ROUND:
                print(
                    f"    {shape:8} to {streams:5,} streams: not measured, {size * streams / 1e9:.0f} GB a round"
                )
                continue
            _compare(shape, streams)


def _compare(shape: str, streams: int) -> None:
    """Medians of turns, as the machine's speed changes: the best of each would be whose luck was greater."""
    rates: dict[str, list[float]] = {"bare": [], "shiplog": []}
    for _ in range(_TURNS):
        for server, found in rates.items():
            found.append(_rate(server, shape, streams) * streams)
    shares = [ours / bare for bare, ours in zip(rates["bare"], rates["shiplog"], strict=True)]
    bare, ours = median(rates["bare"]), median(rates["shiplog"])
    print(
        f"    {shape:8} to {streams:5,} streams: bare {bare:10,.1f} pushes/s, shiplog {ours:10,.1f}: "
        f"{ours / bare:.0%} ({min(shares):.0%} to {max(shares):.0%} in turns)",
        flush=True,
    )


def _rate(server: str, shape: str, streams: int) -> float:
    with tempfile.TemporaryDirectory(prefix="shiplog-bench-") as name:
        folder, port = Path(name), free_port()
        result = folder / "result.txt"
        command = ["-m", "bench.fanout_server", server, shape, str(streams), str(port), str(result)]
        fleet = ["-m", "bench.fleet", f"127.0.0.1:{port}", str(streams), str(folder / "out.txt")]
        if shape == "delta":
            fleet.append("incremental")
        with _child(folder, "server", command) as child, _child(folder, "fleet", fleet):
            deadline = time.monotonic() + 120
            while not result.exists():
                if time.monotonic() > deadline or not child.running:
                    raise RuntimeError(f"no result: {child.log_tail()}")
                time.sleep(0.05)
            return float(result.read_text())


@contextmanager
def _child(folder: Path, name: str, arguments: list[str]) -> Iterator[Child]:
    child = Child(name=name, command=[sys.executable, *arguments], log=folder / f"{name}.log")
    child.start()
    try:
        yield child
    finally:
        child.kill()
