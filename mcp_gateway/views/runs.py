"""The names of a collection in order, in runs of some dozens, and each run as it was encoded last. Pure.

A push of everything is joined from the runs: when one resource of ten thousand changes, one run is encoded anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

RUN = 32
"""Names in a run: fewer than twice as many. Shorter ones are soon more to join than they save to encode."""


@dataclass(slots=True)
class _Run:
    """Names in order, and what they were encoded to, by the form of it."""

    names: list[str]
    encoded: dict[Hashable, bytes] = field(default_factory=dict)


class Runs:
    """A sorted set of names that remembers what its parts were encoded to, until they change."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._firsts: list[str] = []

    def add(self, name: str) -> None:
        """A name that is not there yet."""
        if not self._runs:
            self._insert(0, _Run([name]))
            return
        number, run = self._run_of(name)
        insort(run.names, name)
        self._firsts[number] = run.names[0]
        run.encoded.clear()
        if len(run.names) >= 2 * RUN:
            rest = _Run(run.names[RUN:])
            del run.names[RUN:]
            self._insert(number + 1, rest)

    def remove(self, name: str) -> None:
        """A name that is there."""
        number, run = self._run_of(name)
        del run.names[bisect_left(run.names, name)]
        run.encoded.clear()
        if run.names:
            self._firsts[number] = run.names[0]
        else:
            del self._runs[number], self._firsts[number]

    def changed(self, name: str) -> None:
        """What stands under the name is to be encoded anew."""
        _, run = self._run_of(name)
        run.encoded.clear()

    def encoded(self, form: Hashable, encode: Callable[[Sequence[str]], bytes]) -> list[bytes]:
        """All names in order, run by run as they were encoded to that form, or are encoded now."""
        found = []
        for run in self._runs:
            part = run.encoded.get(form)
            if part is None:
                part = run.encoded[form] = encode(run.names)
            found.append(part)
        return found

    def _run_of(self, name: str) -> tuple[int, _Run]:
        """The run that has the name, or would have it."""
        number = max(0, bisect_right(self._firsts, name) - 1)
        return number, self._runs[number]

    def _insert(self, number: int, run: _Run) -> None:
        self._runs.insert(number, run)
        self._firsts.insert(number, run.names[0])
