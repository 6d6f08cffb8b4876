"""A child process: its log, its end, and the guarantee that it does not outlive us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shiplog.errors import StackError
from shiplog.local_stack import tether

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_LOG_LINES_SHOWN = 15


@dataclass(slots=True, kw_only=True)
class Child:
    """A program started by us, in a session of its own so that Ctrl-C reaches only us.

    Start it from a thread that lives as long as it should: the kernel ties it to that thread.
    """

    name: str
    command: list[str]
    log: Path
    directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, with output appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def wait_until(
        self, ready: Callable[[], bool], *, timeout_s: float, reason: Callable[[], str] = lambda: ""
    ) -> None:
        """Waits until it is ready; `reason` says what it waits for itself, if it can tell.

        Raises:
            StackError: it ended, or is not ready in time; the text holds the reason and the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                code = self.process.returncode if self.process else None
                raise StackError(f"{self.name} ended with code {code}; the end of {self.log}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                why = f": {found}" if (found := reason()) else ""
                raise StackError(
                    f"{self.name} is not ready after {timeout_s:.0f} s{why}; "
                    f"the end of {self.log}:\n{self.log_tail()}"
                )
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line[:300]}" for line in lines[-_LOG_LINES_SHOWN:])

    def terminate(self) -> None:
        """Asks it to end."""
        if self.running and self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """Ends it as a crash would, and waits for it."""
        if self.process is not None and self.running:
            self.process.send_signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def stop(self, timeout_s: float) -> None:
        """Asks it to end, and ends it when it does not."""
        self.terminate()
        try:
            if self.process is not None:
                self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
