"""Kafka's and Nacos's jars, brought by Maven once and kept."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

from shiplog.errors import PrerequisiteError
from shiplog.local_stack.prerequisites import require_maven

_POMS = Path(__file__).parent / "jars"
_COMPLETE = ".complete"
_LOCK = ".lock"


def bring_jars(system: str, folder: Path, poms: Path = _POMS) -> Path:
    """The folder with the jars of `kafka` or `nacos`; fetched when it is not there whole for the present pom.

    `poms` holds a folder with a pom for each system.

    Raises:
        PrerequisiteError: Maven is missing, or can't fetch them.
    """
    pom = poms / system / "pom.xml"
    target = (folder / system).absolute()
    marker = target / _COMPLETE
    if marker.exists() and marker.read_text() == pom.read_text():
        return target
    maven = require_maven()
    target.mkdir(parents=True, exist_ok=True)
    with (target / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be about the same
        if not (marker.exists() and marker.read_text() == pom.read_text()):
            _fetch(maven, system, pom, target)
            marker.write_text(pom.read_text())
    return target


def _fetch(maven: str, system: str, pom: Path, target: Path) -> None:
    """Has Maven copy the jars into the folder."""
    for stale in target.glob("*.jar"):
        stale.unlink()
    command = [
        maven,
        "-q",
        "-B",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={target}",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise PrerequisiteError(
            f"Maven can't fetch the jars of {system} ({' '.join(command)}):\n{answer.stdout[-2000:]}"
        )


def class_path(folder: Path) -> str:
    """All jars of a folder, as Java's class path.

    In the order of their names, but caucho's hessian first: SOFA's carries older copies of its classes.
    """
    jars = sorted(folder.glob("*.jar"), key=lambda jar: (not jar.name.startswith("hessian-4."), jar.name))
    return ":".join(str(jar) for jar in jars)
