"""The last good snapshots on disk, so that a gateway can start while Kafka is away; a file for each namespace."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import structlog

from mcp_gateway import metrics
from mcp_gateway.cache_file import FORMAT, read_header, read_snapshot, write_snapshot
from mcp_gateway.errors import CacheFileError
from mcp_gateway.resources import store_resource
from runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from mcp_gateway.cache_file import CacheHeader
    from mcp_gateway.resources import Shape, StoredResource
    from mcp_gateway.store import CollectionAndName
    from schemas.records import Manifest, ResourceRecord

_log = structlog.get_logger()

_SUFFIX = ".snapshot"
_INDEX = "namespaces.json"
_PARTIAL = ".partial"
_HEADER_BYTES = 8192
_MAX_FILE_NAME = 200
"""Bytes; file systems take 255, suffixes included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedNamespace:
    """A snapshot from the disk; `cached_at` is when it was last known to be Kafka's, in seconds (UTC)."""

    namespace: str
    manifest: Manifest
    resources: dict[CollectionAndName, StoredResource]
    cached_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedCache:
    """What the cache holds of one Kafka cluster, and why some namespaces' files can't be used."""

    cluster: str = ""
    namespaces: tuple[CachedNamespace, ...] = ()
    unusable: dict[str, str] = field(default_factory=dict)


class SnapshotCache:
    """The files of one folder, which belong to one gateway; its methods block, and are called one at a time.

    An index names the namespaces that exist, written before their files are: without it a gateway that was killed
    during its first round would leave some of a mesh, which would look like all of it.

    A file's time of modification is when its snapshot was last known to be what Kafka holds. A file is written
    under another name, forced to the disk and renamed: killed at any point, the former one stands. All snapshots
    together take `max_bytes` at most; one that does not fit is not written, and its former file stands.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def prepare(self) -> None:
        """Makes the folder, readable for this user only, and removes what a killed gateway was about to write.

        Raises:
            SettingsError: it can't be written to.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for partial in self._folder.glob(f"*{_PARTIAL}"):
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise SettingsError(f"gateway.cache_dir: can't use {self._folder}: {error.strerror}") from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise SettingsError(f"gateway.cache_dir: {self._folder} is not writable")

    def load(
        self, shapes: Sequence[Shape], *, cluster: str = "", only: Collection[str] | None = None
    ) -> LoadedCache:
        """The snapshots of a Kafka cluster; where it is not known, of the cluster of the newest file.

        A file that can't be used costs its namespace. Files of other clusters are left out, and logged.
        """
        found: list[tuple[float, str, str, Path]] = []
        unusable: dict[str, str] = {}
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            namespace = unquote(path.name.removesuffix(_SUFFIX))
            if only is not None and namespace not in only and not namespace.startswith("="):
                continue
            try:
                with path.open("rb") as file:
                    header = read_header(file.read(_HEADER_BYTES))
                if namespace.startswith("="):  # a long name, which stands in the header only
                    namespace = header.namespace
                    if only is not None and namespace not in only:
                        continue
                if header.namespace != namespace or self._path(namespace) != path:
                    raise CacheFileError("foreign", f"it is of namespace {header.namespace}")
                found.append((path.stat().st_mtime, header.cluster, namespace, path))
            except (OSError, CacheFileError) as error:
                unusable[namespace] = _refused(path, error)
        if not cluster and found:
            cluster = max(found)[1]
        namespaces = []
        for cached_at, of_cluster, namespace, path in found:
            if of_cluster != cluster:
                _refused(path, CacheFileError("other_cluster", f"it is of {of_cluster}, not of {cluster}"))
                continue
            try:
                namespaces.append(_read(path, namespace, cached_at, shapes))
            except Exception as error:  # noqa: BLE001 - whatever a file holds, it costs its namespace
                unusable[namespace] = _refused(path, error)
        loaded = {one.namespace for one in namespaces}
        for namespace in self._indexed(cluster):
            if namespace not in loaded and (only is None or namespace in only):
                unusable.setdefault(namespace, "the cache has no file of it")
        return LoadedCache(cluster=cluster, namespaces=tuple(namespaces), unusable=unusable)

    def write(self, header: CacheHeader, manifest: Manifest, records: Sequence[ResourceRecord]) -> bool:
        """Writes a namespace's snapshot; whether it fitted.

        Raises:
            OSError: the disk refuses.
        """
        path = self._path(header.namespace)
        room = self._max_bytes - self.size(without=path)
        return self._replace(path, write_snapshot(header, manifest, records), room)

    def write_index(self, cluster: str, namespaces: Collection[str]) -> None:
        """Writes which namespaces exist.

        Raises:
            OSError: the disk refuses.
        """
        facts = {"format": FORMAT, "cluster": cluster, "namespaces": sorted(namespaces)}
        self._replace(self._folder / _INDEX, [json.dumps(facts).encode()], self._max_bytes)

    def _replace(self, path: Path, pieces: Iterable[bytes], room: int) -> bool:
        """Writes a file whole, or leaves the former one; whether there was room."""
        partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
        try:
            partial.unlink(missing_ok=True)
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                for piece in pieces:
                    room -= len(piece)
                    if room < 0:
                        return False
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True

    def _indexed(self, cluster: str) -> list[str]:
        """The namespaces that the index names; none where it is missing, unreadable or of another cluster."""
        path = self._folder / _INDEX
        try:
            facts = json.loads(path.read_bytes())
            if facts["format"] != FORMAT:
                raise CacheFileError("other_format", f"it has format {facts['format']}, and {FORMAT} is read")
            return [str(one) for one in facts["namespaces"]] if facts["cluster"] == cluster else []
        except FileNotFoundError:
            return []
        except Exception as error:  # noqa: BLE001 - whatever it holds
            _refused(path, error)
            return []

    def _path(self, namespace: str) -> Path:
        """By the namespace's name; by its hash where a file system takes no name so long."""
        name = quote(namespace, safe="")
        if len(name) > _MAX_FILE_NAME:
            name = f"={hashlib.blake2b(namespace.encode(), digest_size=16).hexdigest()}"
        return self._folder / f"{name}{_SUFFIX}"

    def touch(self, namespaces: Collection[str]) -> None:
        """Notes that these snapshots are what Kafka holds now."""
        now = time.time()
        for namespace in namespaces:
            with suppress(OSError):
                os.utime(self._path(namespace), (now, now))

    def size(self, *, without: Path | None = None) -> int:
        """Bytes of all snapshots, but for one."""
        total = 0
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path != without:
                with suppress(OSError):
                    total += path.stat().st_size
        return total


def _read(path: Path, namespace: str, cached_at: float, shapes: Sequence[Shape]) -> CachedNamespace:
    _, manifest, records = read_snapshot(path.read_bytes())
    resources = {
        (record.collection, record.name): store_resource(record, shapes, keep_record=True) for record in records
    }
    return CachedNamespace(namespace=namespace, manifest=manifest, resources=resources, cached_at=cached_at)


def _refused(path: Path, error: Exception) -> str:
    """Logs and counts a file that can't be used; why, for people."""
    reason = error.reason if isinstance(error, CacheFileError) else type(error).__name__
    known = error.reason if isinstance(error, CacheFileError) else "unreadable"
    metrics.CACHE_REFUSED.labels(known).inc()
    _log.error("cache_file_refused", file=str(path), reason=reason, detail=str(error))
    return f"its file in the cache can't be used ({reason})"
