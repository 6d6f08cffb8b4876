"""What is installed from the built wheel works: not only what lies in the working tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "runtime", "producers", "consumers", "mcp_gateway", "shiplog")
DATA = {".avsc", ".proto", ".pyi", ".typed", ".xml"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source],
        check=True,
    )
    (found,) = target.glob("*.whl")
    return found


def test_the_wheel_holds_every_file_that_the_code_may_open(wheel: Path) -> None:
    """Schemas, the former ones among them, definitions and poms: a missing one fails only once it is needed."""
    held = set(ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA or (path.suffix == ".py" and "__pycache__" not in path.parts)
    }
    assert sorted(wanted - held) == []


def test_the_installed_wheel_runs_outside_of_the_working_tree(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the locked dependencies, but not the working tree: every command loads."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    with ZipFile(wheel) as archive:
        archive.extractall(site)
    # The dependencies of this run. The editable install is a .pth file, which is not read there.
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    code = (
        f"import sys; sys.path.append({dependencies!r})\n"
        "import shiplog, schemas.avro_codec as codec\n"
        f"assert shiplog.__file__.startswith({str(site)!r}), shiplog.__file__\n"
        "codec.codecs(None)\n"
        "from shiplog.cli import main\n"
        "sys.argv[0] = 'shiplog'\n"
        "main()\n"
    )
    for arguments in (["version"], ["--help"], ["up", "--help"], ["watch", "--help"], ["audit", "--help"]):
        done = subprocess.run(
            [home / "bin" / "python", "-I", "-c", code, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
