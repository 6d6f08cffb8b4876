"""Who the listener is to Nacos: passwords, tokens, and the name under which a server is asked."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from producers.errors import NacosLoginError
from producers.nacos.credentials import Credentials
from producers.settings import NacosSettings
from schemas.events import Link
from tests.harness.fake_nacos.registry import host
from tests.harness.fake_nacos.server import FakeNacos
from tests.harness.pilot import wait_for
from tests.harness.watcher import Watcher

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = ("1.4.6", "2.3.2", "3.0.3")
USERS = {"shiplog": "s3cret"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wrong_password_is_tried_a_few_times_and_the_right_one_at_once(version: str, tmp_path: Path) -> None:
    """All who ask share an attempt; the link says so; a file that is written anew ends the pause."""
    password = tmp_path / "password"
    password.write_text("wrong")
    login = {"username": "shiplog", "password_file": password}
    with FakeNacos(version=version, users=USERS) as nacos:
        for number in range(20):
            nacos.state("public", f"svc-{number}", [host()])
        with Watcher(nacos.url, nacos=login) as watcher:
            wait_for(lambda: "nacos.password_file" in watcher.detail(), timeout_s=10, what="the remedy")
            time.sleep(5)
            assert watcher.link() is Link.BLIND
            assert 1 <= nacos.http.refused_logins <= 6
            assert "refused, next attempt in" in watcher.login()
            before = time.monotonic()
            password.write_text("s3cret\n")
            wait_for(lambda: watcher.watch.is_complete, timeout_s=25, what="a whole view")
            assert nacos.http.logins == 1
            assert time.monotonic() - before < 20
            assert watcher.login() == "logged in as shiplog"


@pytest.mark.parametrize("version", ["2.3.2", "3.0.3"])
def test_a_right_that_is_missing_leads_to_no_logins_without_end(version: str) -> None:
    """One group is not permitted: its services are asked for now and then, with the token that there is."""
    login = {"username": "shiplog", "password": "s3cret"}
    with FakeNacos(version=version, users=USERS) as nacos:
        for number in range(20):
            nacos.state("public", f"svc-{number}", [host()])
            nacos.state("public", f"svc-{number}", [host()], group="secret")
        nacos.registry.faults.refused["secret"] = 403
        with Watcher(nacos.url, nacos=login) as watcher:
            wait_for(lambda: watcher.view.complete, timeout_s=15, what="what is permitted")
            time.sleep(4)
            assert len(watcher.watch.refused_services) == 20
            assert nacos.http.logins <= 6


@pytest.mark.parametrize("version", VERSIONS)
def test_an_ingress_is_asked_for_the_server_by_its_name(version: str) -> None:
    """Requests go to the addresses that the name resolves to; their Host is the name."""
    with FakeNacos(version=version) as nacos:
        nacos.state("public", "svc", [host()])
        nacos.http.only_host = "localhost"
        with Watcher(nacos.url) as watcher:
            wait_for(lambda: watcher.watch.is_complete, timeout_s=15, what="a whole view")
        assert nacos.http.hosts == {f"localhost:{nacos.port}"}


def test_callers_of_one_moment_share_an_attempt() -> None:
    """And so they do its failure; nothing is sent until its pause is over."""
    attempts: list[str] = []

    async def log_in(form: dict[str, str]) -> tuple[str, float]:
        attempts.append(form["password"])
        await asyncio.sleep(0.05)
        raise NacosLoginError(403, form["username"])

    async def run() -> None:
        credentials = Credentials(NacosSettings.model_validate({"username": "u", "password": "p"}), log_in)
        answers = await asyncio.gather(*(credentials.token() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(answer, NacosLoginError) for answer in answers)
        assert attempts == ["p"]

    asyncio.run(run())


@pytest.mark.parametrize("life_s", [float("nan"), float("inf"), -1.0, 0.0, 1e300])
def test_whatever_life_a_token_is_said_to_have_there_is_one_login(life_s: float) -> None:
    """Servers may say anything."""
    attempts: list[str] = []

    async def log_in(form: dict[str, str]) -> tuple[str, float]:
        attempts.append(form["password"])
        return "token", life_s

    async def run() -> None:
        credentials = Credentials(NacosSettings.model_validate({"username": "u", "password": "p"}), log_in)
        assert [await credentials.token() for _ in range(20)] == ["token"] * 20
        assert len(attempts) == 1

    asyncio.run(run())
