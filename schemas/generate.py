"""Writes the protobuf code from the definitions; with --check only compares, and fails when they differ."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
DEFINITIONS = sorted(path.relative_to(ROOT) for path in (ROOT / "schemas/protobuf").rglob("*.proto"))


def generate(target: Path) -> None:
    """Writes messages and their types below `target`."""
    bundled = importlib.util.find_spec("grpc_tools")
    googleapis = importlib.util.find_spec("google.rpc")
    if bundled is None or bundled.origin is None or googleapis is None:
        sys.exit("grpcio-tools and googleapis-common-protos are needed")
    rpc = next(iter(googleapis.submodule_search_locations or []))
    arguments = [
        "protoc",
        f"-I{ROOT}",
        f"-I{Path(bundled.origin).parent / '_proto'}",
        f"-I{Path(rpc).parent.parent}",
        f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *map(str, DEFINITIONS),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc failed")


def main() -> None:
    """Generates or checks."""
    if "--check" not in sys.argv:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [
            str(made.relative_to(folder))
            for made in sorted(Path(folder).rglob("*_pb2.py*"))
            if made.read_text() != (ROOT / made.relative_to(folder)).read_text()
        ]
    if stale:
        sys.exit(f"generated code is stale, run `make generate`: {', '.join(stale)}")


if __name__ == "__main__":
    main()
