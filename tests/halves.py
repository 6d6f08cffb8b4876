"""`python -m tests.halves`: all tests, in two processes at a time, each with half of them and servers of its own.

Integration tests wait for most of their time: for sessions to end, for brokers to be missed. Arguments go to both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shiplog.local_stack.jars import bring_jars

HALVES = (1, 2)
_ROOT = Path(__file__).parents[1]
_SECOND_FROM, _SECOND_TO = "test_l", "test_v"
"""Integration tests whose modules are named from one to before the other are the second half: about as long."""


def half_of(path: Path) -> int:
    """The half that a test module belongs to."""
    is_second = path.parent.name == "integration" and _SECOND_FROM <= path.name < _SECOND_TO
    return 2 if is_second else 1


def ports_of(half: int | None) -> range:
    """The ports for servers of a half, or of a run that is not halved, each with room for those around it.

    Below the range from which Linux takes the ports of outgoing connections.
    """
    return {1: range(13_000, 20_000), 2: range(23_000, 30_000), None: range(13_000, 30_000)}[half]


def main() -> int:
    """The first half's output as it comes, then the second's; the worse of their exit codes."""
    began = time.monotonic()
    for system in ("kafka", "nacos"):
        bring_jars(system, _ROOT / ".local" / "jars")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *sys.argv[1:]]
    with tempfile.TemporaryFile() as output:
        first = subprocess.Popen([*command, "--half", "1"], cwd=_ROOT)
        second = subprocess.Popen(
            [*command, "--half", "2"], cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            codes = [first.wait(), second.wait()]
        finally:
            for process in (first, second):
                process.terminate()
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
    sys.stdout.write(f"both halves: {time.monotonic() - began:.0f} s, exit codes {codes[0]} and {codes[1]}\n")
    return max(map(abs, codes))


if __name__ == "__main__":
    sys.exit(main())
