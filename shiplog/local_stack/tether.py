"""Runs a program that dies with its parent: `python tether.py PARENT_PID PROGRAM ARGS...`.

On Linux the kernel kills the program when its parent is gone, even by kill -9, so no orphan survives. Imports
nothing of shiplog: it is run as a script, with an interpreter that loads no site packages.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks for the parent's death to be ours, and becomes the program."""
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            sys.exit(1)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
