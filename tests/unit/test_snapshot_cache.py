"""The last good snapshots on disk: what is read is what was written, and a bad file costs itself."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mcp_gateway.cache_file import FORMAT, CacheHeader
from mcp_gateway.resources import PLAIN, store_resource
from mcp_gateway.snapshot_cache import SnapshotCache
from runtime.errors import SettingsError
from schemas.events import Namespace
from tests.harness.resources import record
from tests.harness.snapshot_topic import manifest_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schemas.records import ResourceRecord

MIB = 1024 * 1024


def records(namespace: str, versions: dict[str, str]) -> list[ResourceRecord]:
    """Resource records of a namespace."""
    return [
        replace(record(name, version, parts={"dc1": b"\x0a\x01x"}), namespace=Namespace(namespace))
        for name, version in versions.items()
    ]


def write(cache: SnapshotCache, namespace: str, versions: dict[str, str], cluster: str = "c1") -> bool:
    """Writes a namespace's snapshot."""
    return cache.write(
        CacheHeader(cluster, namespace), manifest_of(namespace, versions), records(namespace, versions)
    )


@pytest.fixture
def cache(tmp_path: Path) -> SnapshotCache:
    """A cache in a new folder."""
    made = SnapshotCache(tmp_path / "cache", MIB)
    made.prepare()
    return made


def files(tmp_path: Path) -> list[Path]:
    """The snapshots on disk."""
    return sorted((tmp_path / "cache").glob("*.snapshot"))


def test_what_is_read_is_what_was_written(cache: SnapshotCache, tmp_path: Path) -> None:
    """Bytes, versions, digests and the manifest; also of names that are no file names."""
    long = "命" * 60  # of which a quoted file name would have 540 bytes
    for namespace in ("public", "a/b c", "..", long):
        assert write(cache, namespace, {"ns/a": "1", "ns/b": "2"})
    loaded = cache.load((PLAIN,))
    assert loaded.cluster == "c1"
    assert not loaded.unusable
    assert sorted(one.namespace for one in loaded.namespaces) == ["..", "a/b c", "public", long]
    assert [one.namespace for one in cache.load((PLAIN,), only=[long]).namespaces] == [long]
    for one in loaded.namespaces:
        expected = records(one.namespace, {"ns/a": "1", "ns/b": "2"})
        assert one.manifest == manifest_of(one.namespace, {"ns/a": "1", "ns/b": "2"})
        assert list(one.resources.values()) == [store_resource(r, (PLAIN,), keep_record=True) for r in expected]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files(tmp_path))
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_an_empty_namespace_is_kept(cache: SnapshotCache) -> None:
    """It is a good snapshot."""
    write(cache, "empty", {})
    (one,) = cache.load((PLAIN,)).namespaces
    assert one.resources == {}


def cut_short(data: bytes) -> bytes:
    """The end is missing."""
    return data[:-40]


def cut_to_header(data: bytes) -> bytes:
    """All but the beginning is missing."""
    return data[:100]


def emptied(_: bytes) -> bytes:
    """Nothing is left."""
    return b""


def flipped(data: bytes) -> bytes:
    """One bit is another."""
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


def foreign(_: bytes) -> bytes:
    """Another program wrote it."""
    return b"PK\x03\x04 something else"


def newer(data: bytes) -> bytes:
    """A later release wrote it."""
    return data.replace(b'"format": %d' % FORMAT, b'"format": 9', 1)


def no_json(data: bytes) -> bytes:
    """Its header is no JSON."""
    return data.replace(b'{"format"', b'["format"', 1)


def of_another(data: bytes) -> bytes:
    """Its header names another namespace."""
    return data.replace(b'"namespace": "bad"', b'"namespace": "god"', 1)


def lengthened(data: bytes) -> bytes:
    """Something follows."""
    return data + b"more"


@pytest.mark.parametrize(
    "damage", [cut_short, cut_to_header, emptied, flipped, foreign, newer, no_json, of_another, lengthened]
)
def test_a_file_that_cannot_be_used_costs_its_namespace(
    cache: SnapshotCache, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """It is named as one that exists and is not known; the next snapshot replaces it."""
    write(cache, "bad", {"ns/a": "1"})
    write(cache, "good", {"ns/b": "1"})
    path = tmp_path / "cache" / "bad.snapshot"
    path.write_bytes(damage(path.read_bytes()))
    loaded = cache.load((PLAIN,))
    assert [one.namespace for one in loaded.namespaces] == ["good"]
    assert loaded.unusable.keys() == {"bad"}
    write(cache, "bad", {"ns/a": "2"})
    assert len(cache.load((PLAIN,)).namespaces) == 2


def test_resources_that_do_not_amount_to_the_manifest_are_refused(cache: SnapshotCache) -> None:
    """A file whose hash is right may have been written wrong."""
    cache.write(CacheHeader("c1", "ns"), manifest_of("ns", {"ns/a": "2"}), records("ns", {"ns/a": "1"}))
    assert cache.load((PLAIN,)).unusable.keys() == {"ns"}


def test_files_of_another_cluster_are_left_out(cache: SnapshotCache, tmp_path: Path) -> None:
    """Where Kafka's id is known it decides; else the newest file does."""
    write(cache, "old", {"ns/a": "1"}, cluster="c1")
    write(cache, "new", {"ns/b": "1"}, cluster="c2")
    os.utime(tmp_path / "cache" / "old.snapshot", (1, 1))
    assert [one.namespace for one in cache.load((PLAIN,)).namespaces] == ["new"]
    known = cache.load((PLAIN,), cluster="c1")
    assert [one.namespace for one in known.namespaces] == ["old"]
    assert not known.unusable, "of this cluster nothing is missing"


def test_a_namespace_of_the_index_without_a_file_is_known_to_exist(cache: SnapshotCache, tmp_path: Path) -> None:
    """The gateway was killed before it had written all; an index of another cluster or form says nothing."""
    cache.write_index("c1", ["one", "two"])
    write(cache, "one", {"ns/a": "1"})
    assert cache.load((PLAIN,)).unusable.keys() == {"two"}
    index = tmp_path / "cache" / "namespaces.json"
    of_another_cluster = json.dumps({"format": FORMAT, "cluster": "x", "namespaces": ["y"]})
    for text in ("", "[]", json.dumps({"format": 9}), of_another_cluster):
        index.write_text(text)
        loaded = cache.load((PLAIN,))
        assert [one.namespace for one in loaded.namespaces] == ["one"]
        assert not loaded.unusable


def test_all_files_together_are_bounded(cache: SnapshotCache, tmp_path: Path) -> None:
    """What does not fit is not written, and its former file stands."""
    small = SnapshotCache(tmp_path / "cache", 3000)
    assert write(small, "ns", {"ns/a": "1"})
    many = {f"ns/{number}": "1" for number in range(100)}
    assert not write(small, "ns", many)
    assert not write(small, "other", many)
    assert [(one.namespace, len(one.resources)) for one in cache.load((PLAIN,)).namespaces] == [("ns", 1)]
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_killed_while_it_writes_the_former_file_stands(cache: SnapshotCache, tmp_path: Path) -> None:
    """The process is ended in the middle of the file, for each place in it; the next start clears up."""
    write(cache, "ns", {"ns/a": "1"})
    for after in range(4):
        child = os.fork()
        if child == 0:
            dying = _DyingRecords(records("ns", {f"ns/{n}": "2" for n in range(4)}), after)
            cache.write(CacheHeader("c1", "ns"), manifest_of("ns", {}), dying)  # type: ignore[arg-type]
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        (one,) = cache.load((PLAIN,)).namespaces
        assert one.manifest == manifest_of("ns", {"ns/a": "1"})
    assert list((tmp_path / "cache").glob("*.partial"))
    cache.prepare()
    assert not list((tmp_path / "cache").glob("*.partial"))


class _DyingRecords:
    """Records of which some come, and then the process ends."""

    def __init__(self, found: list[ResourceRecord], after: int) -> None:
        self._found, self._after = found, after

    def __iter__(self) -> object:
        yield from self._found[: self._after]
        os._exit(9)


def test_a_disk_that_is_full_leaves_the_former_file(
    cache: SnapshotCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is told, and no partial file is left."""
    write(cache, "ns", {"ns/a": "1"})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mcp_gateway.snapshot_cache.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write(cache, "ns", {"ns/a": "2"})
    assert [one.manifest for one in cache.load((PLAIN,)).namespaces] == [manifest_of("ns", {"ns/a": "1"})]
    assert not list((tmp_path / "cache").glob("*.partial"))


def test_a_folder_that_cannot_be_used_is_a_settings_error(tmp_path: Path) -> None:
    """One line with the setting's name, before anything is started."""
    taken = tmp_path / "file"
    taken.write_text("")
    with pytest.raises(SettingsError, match=r"gateway\.cache_dir"):
        SnapshotCache(taken, MIB).prepare()


def test_a_header_or_an_index_that_is_nested_too_deep_costs_itself(cache: SnapshotCache, tmp_path: Path) -> None:
    """Reading it ends in a RecursionError, and the other namespaces are read."""
    write(cache, "good", {"ns/a": "1"})
    write(cache, "deep", {"ns/a": "1"})
    (path,) = (one for one in files(tmp_path) if one.name.startswith("deep"))
    content = path.read_bytes()
    start = content.index(b"{")
    path.write_bytes(content[:start] + b"[" * 4000 + b"\n" + content)
    (tmp_path / "cache" / "namespaces.json").write_bytes(b"[" * 100_000)
    loaded = cache.load((PLAIN,))
    assert [one.namespace for one in loaded.namespaces] == ["good"]
    assert list(loaded.unusable) == ["deep"]
