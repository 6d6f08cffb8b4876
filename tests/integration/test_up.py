"""`shiplog up` as a user and a script meet it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.harness.pilot import wait_for
from tests.harness.servers import JARS, free_port, topics_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness.servers import KafkaServer, NacosServer


class Up:
    """`shiplog up` in a folder of its own, on free ports."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self.ready_file = folder / "ready.json"
        self.ports = {
            "--gateway-port": free_port(),
            "--gateway-admin-port": free_port(),
            "--listener-admin-port": free_port(),
            "--materializer-admin-port": free_port(),
            "--kafka-port": free_port(1),
            "--nacos-port": free_port(1000, 1001, -1000),
        }
        arguments = [str(part) for pair in self.ports.items() for part in pair]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "shiplog", "up", "--no-view", "--data-dir", str(folder / "data")),
                *("--jars-dir", str(JARS), "--ready-file", str(self.ready_file), *arguments, *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, **environment},
        )

    def wait(self) -> dict[str, str]:
        wait_for(
            lambda: self.ready_file.exists() or self.process.poll() is not None,
            timeout_s=120,
            what="the ready file",
        )
        assert self.ready_file.exists(), self.process.communicate()[0]
        addresses: dict[str, str] = json.loads(self.ready_file.read_text())
        return addresses

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def started() -> Iterator[list[Up]]:
    """Stacks to be ended with the test."""
    ups: list[Up] = []
    yield ups
    for up in ups:
        up.process.kill()
        up.process.wait()


def watch(*options: str) -> str:
    """What `shiplog watch --once` prints."""
    command = [sys.executable, "-m", "shiplog", "watch", "--once", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_up_serves_a_demo_and_ends_on_ctrl_c(started: list[Up], tmp_path: Path) -> None:
    """Everything from nothing; `watch` shows the demo; Ctrl-C ends all within 10 s and leaves no orphan."""
    up = Up(tmp_path, "--fresh", "--demo")
    started.append(up)
    addresses = up.wait()
    shown = watch("--address", addresses["gateway"])
    assert "public/orders.default-group.public" in shown
    as_json = json.loads(watch("--address", addresses["gateway"], "--protocol", "ads", "-o", "json"))
    assert {entry["name"] for entry in as_json["added"]} >= {"public/users.default-group.public"}
    children = up.children()
    assert len(children) == 6
    began = time.monotonic()
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=12) == 0
    assert time.monotonic() - began < 10
    assert not psutil.wait_procs(children, timeout=1)[1]


def test_up_without_a_demo_serves_an_empty_registry(started: list[Up], tmp_path: Path) -> None:
    """A fresh Nacos without any service: everything gets ready, and clients are answered with nothing."""
    up = Up(tmp_path, "--fresh", "--no-demo")
    started.append(up)
    addresses = up.wait()
    for protocol in ("mcp", "ads"):
        answer = json.loads(watch("--address", addresses["gateway"], "--protocol", protocol, "-o", "json"))
        assert answer["resources"] == 0
        assert not answer["added"]


def test_no_orphan_survives_kill_9_of_up(
    started: list[Up], tmp_path: Path, kafka: KafkaServer, nacos: NacosServer
) -> None:
    """With an existing Kafka and Nacos, which are left alone."""
    kafka.renew_topics()
    options = ("--kafka", kafka.servers, "--nacos", nacos.url)
    up = Up(tmp_path, *options, **topics_environment(kafka.topics))
    started.append(up)
    up.wait()
    children = up.children()
    assert len(children) == 4
    up.process.kill()
    assert not psutil.wait_procs(children, timeout=5)[1]
    assert kafka.child.running
    assert nacos.child.running


def test_a_process_that_ends_is_started_again(
    started: list[Up], tmp_path: Path, kafka: KafkaServer, nacos: NacosServer
) -> None:
    """The stack goes on, and says so."""
    kafka.renew_topics()
    options = ("--kafka", kafka.servers, "--nacos", nacos.url)
    up = Up(tmp_path, *options, **topics_environment(kafka.topics))
    started.append(up)
    addresses = up.wait()
    gateway = next(child for child in up.children() if child.cmdline()[-1] == "gateway")
    gateway.kill()
    wait_for(lambda: gateway.pid not in [c.pid for c in up.children()], timeout_s=10, what="the old one gone")
    wait_for(lambda: _prints("public/orders", addresses["gateway"]), timeout_s=30, what="the gateway serves again")


def _prints(text: str, gateway: str) -> bool:
    try:
        return text in watch("--address", gateway)
    except subprocess.CalledProcessError:
        return False


def test_a_busy_port_is_one_line_that_names_it(started: list[Up], tmp_path: Path) -> None:
    """Before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        up = Up(tmp_path, "--kafka-port", str(port))
        started.append(up)
        output, _ = up.process.communicate(timeout=30)
    assert up.process.returncode == 1
    assert output.count("\n") <= 2
    assert f"port {port}" in output
    assert "--kafka-port" in output


@pytest.mark.parametrize(("program", "package"), [("java", "openjdk-17"), ("mvn", "maven")])
def test_a_missing_program_is_one_line_with_its_package(
    started: list[Up], tmp_path: Path, program: str, package: str
) -> None:
    """Java at once; Maven when the jars are not there yet."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"java", "mvn"} - {program}:
        (programs / name).symlink_to(shutil.which(name) or "")
    up = Up(tmp_path, "--jars-dir", str(tmp_path / "jars"), PATH=str(programs))
    started.append(up)
    output, _ = up.process.communicate(timeout=60)
    assert up.process.returncode == 1
    assert program in output
    assert package in output
    assert "Traceback" not in output


def test_settings_at_fault_are_all_named(tmp_path: Path) -> None:
    """Exit code 2, one line each, with the setting's name."""
    file = tmp_path / "shiplog.yaml"
    file.write_text("gateway: {port: 99999, hots: x}\nkafka: {servers: 5}\nconversion: {host: '{nope}'}\n")
    answer = subprocess.run(
        [sys.executable, "-m", "shiplog", "gateway", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    for name in ("gateway.port", "gateway.hots", "kafka.servers", "conversion.host"):
        assert name in answer.stderr
    assert "Traceback" not in answer.stderr
