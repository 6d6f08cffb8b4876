"""Runs hold what a sorted set would, and encode anew only what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.views import runs
from mcp_gateway.views.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

NAMES = st.integers(0, 60).map(lambda number: f"ns/{number:02}")


@given(steps=st.lists(st.tuples(st.sampled_from(["put", "remove", "push"]), NAMES), max_size=200))
def test_what_is_joined_is_what_there_is(steps: list[tuple[str, str]]) -> None:
    """Whatever comes, changes and goes, in whatever order, pushes in between."""
    content: dict[str, str] = {}
    kept = Runs()

    def encode(names: Sequence[str]) -> bytes:
        return "".join(f"{name}={content[name]};" for name in names).encode()

    for number, (step, name) in enumerate(steps):
        match step:
            case "put":
                (kept.changed if name in content else kept.add)(name)
                content[name] = str(number)
            case "remove" if content.pop(name, None) is not None:
                kept.remove(name)
            case _:
                assert b"".join(kept.encoded("form", encode)) == encode(sorted(content))
    names = b"".join(kept.encoded("names", lambda run: "".join(f"{name} " for name in run).encode()))
    assert names.decode().split() == sorted(content)
    assert b"".join(kept.encoded("form", encode)) == encode(sorted(content))


def test_one_change_of_many_encodes_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one name more, too, wherever it belongs."""
    monkeypatch.setattr(runs, "RUN", 4)
    kept, encoded = Runs(), []

    def encode(names: Sequence[str]) -> bytes:
        encoded.append(tuple(names))
        return b""

    for number in range(40):
        kept.add(f"{number:02}")
    kept.encoded("form", encode)
    assert sum(map(len, encoded)) == 40
    for change in (lambda: kept.changed("17"), lambda: kept.add("17a"), lambda: kept.remove("39")):
        encoded.clear()
        change()
        kept.encoded("form", encode)
        assert len(encoded) == 1
        assert len(encoded[0]) < 8
