"""What a trace in the log holds, and what it must not hold."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from runtime.lifecycle import configure_logging
from runtime.settings import LogSettings

configure_logging(LogSettings(format={form!r}), "test")

def log_in(password):
    raise ValueError("a fault")

try:
    log_in("s3" + "cret")
except ValueError:
    structlog.get_logger().exception("failed")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_trace_tells_where_and_not_with_which_values(form: str) -> None:
    """Variables may hold passwords, or a registry of a million instances."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(form=form)], capture_output=True, text=True, check=True
    )
    assert "a fault" in done.stderr
    assert "log_in" in done.stderr
    assert "s3cret" not in done.stderr
