"""What `shiplog up` says of processes that are not ready."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from shiplog.errors import StackError
from shiplog.local_stack.child import Child
from shiplog.local_stack.stack import LocalStack, ProcessState, StackOptions, state_of

if TYPE_CHECKING:
    from pathlib import Path


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[int, Any]) -> None:
    """Admin ports answer with these: the body of a 503, or an exception."""

    def get(url: str, **_: object) -> httpx.Response:
        answer = answers[int(url.split(":")[2].split("/", maxsplit=1)[0])]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(503, json=answer)

    monkeypatch.setattr(httpx, "get", get)


@pytest.mark.parametrize("answer", [httpx.ConnectError("refused"), [], {}, {"waiting_for": []}, None])
def test_a_process_that_answers_nothing_useful_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """It may be starting, or another program may have the port."""
    answering(monkeypatch, {1: answer})
    assert state_of(1) == ProcessState()


def test_a_gateway_that_waits_is_explained_by_those_that_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own reason, and that of the processes before it."""
    waits = {"waiting_for": {"snapshots": "nothing was published yet"}, "stale": {}}
    nacos = {"waiting_for": {"nacos": "no server answers"}, "stale": {}}
    answering(monkeypatch, {9911: waits, 9912: nacos, 9913: {"waiting_for": {}, "stale": {}}})
    stack = LocalStack(StackOptions(data_dir=tmp_path, jars_dir=tmp_path), None, print)  # type: ignore[arg-type]
    assert stack.reasons("gateway") == (
        "the listener waits for no server answers; the gateway waits for nothing was published yet"
    )


def test_not_ready_in_time_names_the_reason_before_the_log(tmp_path: Path) -> None:
    """A line of the log is often about something else."""
    child = Child(name="the gateway", command=[sys.executable, "-c", "input()"], log=tmp_path / "log")
    child.process = _Running()  # type: ignore[assignment]
    with pytest.raises(StackError, match="not ready after 0 s: nothing was published yet; the end of"):
        child.wait_until(lambda: False, timeout_s=0.0, reason=lambda: "nothing was published yet")


class _Running:
    """A program that has not ended."""

    returncode = None

    def poll(self) -> None:
        return None
