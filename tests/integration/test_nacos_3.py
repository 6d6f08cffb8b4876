"""A real Nacos 3: its server is built from its sources, since no repository of jars has it."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from schemas.events import Link
from shiplog.local_stack.child import Child
from shiplog.local_stack.registrar import Registrar
from tests.harness.load import GROUP, make_instance
from tests.harness.pilot import wait_for
from tests.harness.servers import free_port
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator

JAR = os.environ.get("SHIPLOG_NACOS_3_JAR", "")
SERVICES = 1500
ROUNDS = 3

pytestmark = pytest.mark.skipif(not JAR, reason="SHIPLOG_NACOS_3_JAR names no nacos-server.jar of Nacos 3")


@pytest.fixture
def nacos_3(tmp_path: Path) -> Iterator[str]:
    """The URL of a standalone server that asks for no login."""
    port, console = free_port(1000, 1001, -1000), free_port()
    conf = tmp_path / "conf"
    conf.mkdir()
    settings = {
        "nacos.server.main.port": port,
        "nacos.server.contextPath": "/nacos",
        "nacos.console.port": console,
        "nacos.inetutils.ip-address": "127.0.0.1",
        "server.tomcat.basedir": "file:.",
        "nacos.core.auth.system.type": "nacos",
        "nacos.core.auth.enabled": "false",
        "nacos.core.auth.admin.enabled": "false",
        "nacos.core.auth.console.enabled": "false",
        "nacos.core.auth.plugin.nacos.token.secret.key": b64encode(secrets.token_bytes(48)).decode(),
        "nacos.core.auth.server.identity.key": "test",
        "nacos.core.auth.server.identity.value": "test",
    }
    (conf / "application.properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    server = Child(
        name="Nacos 3",
        command=[
            *("java", "-Xms512m", "-Xmx1g", "-Dnacos.standalone=true", f"-Dnacos.home={tmp_path}"),
            *("--add-opens", "java.base/java.lang=ALL-UNNAMED", "--add-opens", "java.base/java.util=ALL-UNNAMED"),
            *("-jar", str(Path(JAR).absolute())),
            f"--spring.config.additional-location=file:{conf}/",
        ],
        log=tmp_path / "nacos.log",
        directory=tmp_path,
    )
    server.start()
    server.wait_until(lambda: _is_ready(console), timeout_s=180)
    yield f"http://127.0.0.1:{port}"
    server.kill()


def _is_ready(console: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{console}/v3/console/health/readiness", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def registered(url: str, tag: str) -> Iterator[float]:
    """1,500 services of one instance, as fast as Nacos takes them; when the last one was taken (monotonic)."""
    taken, may_end = threading.Event(), threading.Event()

    async def register() -> None:
        async with Registrar(url, "public") as registrar:
            numbers = iter(range(SERVICES))

            async def worker() -> None:
                for number in numbers:
                    await registrar.state(GROUP, f"{tag}-{number}", [make_instance(number, 0)])

            await asyncio.gather(*(worker() for _ in range(16)))
            taken.set()
            await asyncio.to_thread(may_end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(register()))
    thread.start()
    assert taken.wait(120)
    yield time.monotonic()
    may_end.set()
    thread.join()


@pytest.mark.timeout(600)
def test_1500_services_within_seconds_are_found_within_5_s(nacos_3: str) -> None:
    """Nacos pushes 500 of them at most; until all are found nothing says that the view is complete."""
    with Watcher(nacos_3, settings={"listing_interval_s": 1.0, "sweep_interval_s": 60.0}) as watcher:
        wait_for(lambda: watcher.watch.is_complete, timeout_s=30, what="a whole view")
        for turn in range(ROUNDS):
            known = len(watcher.view.observed)
            with registered(nacos_3, f"turn-{turn}") as since:
                while len(watcher.view.observed) < known + SERVICES:
                    late_s = time.monotonic() - since
                    if late_s > 1.5:  # a count is asked for each second
                        assert not watcher.watch.is_complete
                    assert late_s < 5, f"{len(watcher.view.observed) - known} of {SERVICES} after 5 s"
                    time.sleep(0.02)
                wait_for(lambda: watcher.watch.is_complete, timeout_s=5, what="complete")
                assert watcher.link() is Link.LIVE
