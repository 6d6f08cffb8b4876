"""shiplog's processes as children, each with settings of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import psutil

from shiplog.local_stack.child import Child
from tests.harness.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.servers import Kafka, NacosServer

_COMMANDS = {"listener": "listen", "materializer": "materialize", "gateway": "gateway"}


@contextmanager
def standing_still(child: Child) -> Iterator[None]:
    """The process and its children are stopped, not ended, and go on afterwards."""
    assert child.process is not None
    top = psutil.Process(child.process.pid)
    tree = [top, *top.children(recursive=True)]
    for process in tree:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in tree:
            process.send_signal(signal.SIGCONT)


def guard(mode: str, *scopes: str) -> dict[str, str]:
    """The settings that put the guard into a mode: in all scopes, or in some."""
    return {
        f"SHIPLOG_MATERIALIZER__GUARD__{scope.upper()}__MODE": mode
        for scope in scopes or ("service", "namespace", "datacenter", "head")
    }


@dataclass(slots=True)
class Process:
    """One process: it keeps its ports and its name over restarts."""

    kind: str
    child: Child
    admin_port: int
    port: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.child.start()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.admin_port}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def wait(self, timeout_s: float = 60) -> None:
        self.child.wait_until(self.is_ready, timeout_s=timeout_s)

    def debug(self, page: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.admin_port}/debug/{page}", timeout=5).json()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.split("{")[0].split(" ")[0] == name and all(label in line for label in wanted)
        )


@dataclass(slots=True)
class Processes:
    """Starts processes against one Kafka and one Nacos, watching one namespace."""

    folder: Path
    kafka: Kafka
    nacos: NacosServer
    namespaces: list[str]
    group: str
    started: list[Process] = field(default_factory=list)

    def start(self, kind: str, **environment: str) -> Process:
        """A process with a fresh set of ports; more settings as SHIPLOG_ variables."""
        admin_port = free_port()
        port = free_port() if kind == "gateway" else 0
        name = f"{kind}-{admin_port}"
        child = Child(
            name=name,
            command=[sys.executable, "-m", "shiplog", _COMMANDS[kind]],
            log=self.folder / f"{name}.log",
            environment={
                **self.kafka.environment(),
                "SHIPLOG_NACOS__SERVERS": json.dumps([self.nacos.url]),
                "SHIPLOG_NACOS__NAMESPACES": json.dumps(self.namespaces),
                "SHIPLOG_LISTENER__GROUP": f"listener-{self.group}",
                "SHIPLOG_MATERIALIZER__GROUP": f"materializer-{self.group}",
                "SHIPLOG_GATEWAY__PORT": str(port or 9901),
                # Random changes may take most endpoints away, and are compared with what Nacos has; the guard has
                # tests of its own.
                **guard("observe"),
                f"SHIPLOG_{kind.upper()}__ADMIN__PORT": str(admin_port),
                **environment,
            },
        )
        process = Process(kind, child, admin_port, port)
        process.start()
        self.started.append(process)
        return process

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The outcome of `shiplog control` with these arguments."""
        return self.run("control", *arguments)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The outcome of `shiplog` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "shiplog", *arguments],
            env={
                **os.environ,
                **self.kafka.environment(),
                **guard("observe"),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def start_all(self, **environment: str) -> tuple[Process, Process, Process]:
        """A listener, a materializer and a gateway, ready."""
        listener, materializer, gateway = (
            self.start(kind, **environment) for kind in ("listener", "materializer", "gateway")
        )
        for process in (listener, materializer, gateway):
            process.wait()
        return listener, materializer, gateway

    def stop(self) -> None:
        for process in self.started:
            process.child.terminate()
        for process in self.started:
            process.child.stop(8)
