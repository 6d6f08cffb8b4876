"""A command that waits for Kafka says so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack

COMMANDS = [
    ("topics", "check"),
    ("control", "freeze", "-n", "x", "-r", "a test"),
    ("audit", "at", "-n", "x", "-t", "now"),
]


def first_lines(server: str, commands: list[tuple[str, ...]]) -> list[str]:
    """The first thing that each command says on stderr, while it still runs; all at once, and ended then."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "shiplog", *command],
                    env=os.environ | {"SHIPLOG_KAFKA__SERVERS": server},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for command in commands
        ]
        lines = []
        for process in running:
            assert process.stderr is not None
            lines.append(process.stderr.readline())
            if process.poll() is not None:
                lines[-1] += "(it has ended)"
        for process in running:
            process.kill()
    return lines


def test_a_command_without_kafka_says_that_it_waits() -> None:
    """Where, on stderr, long before it gives up: there, nobody answers."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        lines = first_lines(server, COMMANDS)
    assert lines == [f"shiplog: waiting for Kafka at {server}; see kafka.servers\n"] * len(COMMANDS)


def test_a_refused_connection_is_named() -> None:
    """Why there is no answer, where that is known."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{closed.getsockname()[1]}"
        (line,) = first_lines(server, [("topics", "check")])
    assert line.startswith(f"shiplog: waiting for Kafka at {server} (")
    assert "Connection refused" in line
