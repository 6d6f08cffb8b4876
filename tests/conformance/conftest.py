"""The independent client, built once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PEER = Path(__file__).parent / "peer"


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built client; missing Go is a failure, not a skip."""
    target = tmp_path_factory.mktemp("peer") / "peer"
    build = subprocess.run(
        ["go", "build", "-o", str(target), "."], cwd=PEER, capture_output=True, text=True, check=False
    )
    assert build.returncode == 0, build.stderr
    return target
