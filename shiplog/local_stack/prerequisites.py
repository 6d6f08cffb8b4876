"""What the local stack needs, checked before anything else happens."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess

from shiplog.errors import PrerequisiteError

JAVA_AT_LEAST = 17


def require_java() -> None:
    """Java 17 or newer.

    Raises:
        PrerequisiteError: it is missing or too old.
    """
    remedy = f"install Java {JAVA_AT_LEAST} or newer (Debian: apt-get install openjdk-17-jre-headless)"
    java = shutil.which("java")
    if java is None:
        raise PrerequisiteError(f"java is not on the PATH: {remedy}")
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr + answer.stdout)
    if found is None or int(found[1]) < JAVA_AT_LEAST:
        raise PrerequisiteError(f"java is version {found[1] if found else 'unknown'}: {remedy}")


def require_maven() -> str:
    """The path of Maven.

    Raises:
        PrerequisiteError: it is missing.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise PrerequisiteError("mvn is not on the PATH: install Maven (Debian: apt-get install maven)")
    return maven


def require_free_port(port: int, purpose: str, option: str) -> None:
    """A port nobody listens on.

    Raises:
        PrerequisiteError: it is taken; names the port, what it is for and the option to choose another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PrerequisiteError(
                f"port {port}, wanted for {purpose}, is busy: end what listens there, or choose with {option}"
            ) from error
