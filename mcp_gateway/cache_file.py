r"""A namespace's snapshot as one file of the cache. Pure.

    shiplog snapshot cache\n           what the file is
    {"format": 1, "cluster": ..., "namespace": ...}\n
    size (4 bytes, big endian), the manifest as Avro
    size, a resource record as Avro    any number of them
    0 (4 bytes), BLAKE2b (32 bytes) of all that precedes it

Records are in Avro's single-object encoding whatever the topic has: no schema registry is needed to read them.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

from mcp_gateway.errors import CacheFileError
from schemas.avro_codec import codecs
from schemas.digests import format_snapshot_digest, resource_digest
from schemas.errors import UndecodableRecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from schemas.records import Manifest, ResourceRecord

FORMAT = 1
_MAGIC = b"shiplog snapshot cache\n"
_SIZE_BYTES, _DIGEST_BYTES = 4, 32
_END = bytes(_SIZE_BYTES)
_MAX_HEADER = 4096
_CODECS = codecs()


class CacheHeader(NamedTuple):
    """Of which Kafka cluster and namespace a file is."""

    cluster: str
    namespace: str


def write_snapshot(header: CacheHeader, manifest: Manifest, records: Iterable[ResourceRecord]) -> Iterator[bytes]:
    """The file's bytes, piece by piece."""
    hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    line = json.dumps({"format": FORMAT, **header._asdict()}).encode() + b"\n"

    def pieces() -> Iterator[bytes]:
        yield _MAGIC + line
        yield _framed(_CODECS.manifest.encode(manifest))
        for record in records:
            yield _framed(_CODECS.resource.encode(record))
        yield _END

    for piece in pieces():
        hashed.update(piece)
        yield piece
    yield hashed.digest()


def read_header(start: bytes) -> CacheHeader:
    """What the beginning of a file says of it.

    Raises:
        CacheFileError: it is no file of a cache, or of a newer format.
    """
    line, newline, _ = start.removeprefix(_MAGIC)[:_MAX_HEADER].partition(b"\n")
    if not start.startswith(_MAGIC) or not newline:
        raise CacheFileError("foreign", "it does not begin as a file of the cache does")
    try:
        facts = json.loads(line)
        if facts["format"] != FORMAT:
            raise CacheFileError("other_format", f"it has format {facts['format']}, and {FORMAT} is read")
        return CacheHeader(str(facts["cluster"]), str(facts["namespace"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CacheFileError("foreign", f"its first lines can't be read ({error!r})") from error


def read_snapshot(data: bytes) -> tuple[CacheHeader, Manifest, list[ResourceRecord]]:
    """What a file holds, once its hash and its manifest's digest are found right.

    Raises:
        CacheFileError: it can't be used.
    """
    header = read_header(data[: len(_MAGIC) + _MAX_HEADER])
    content, digest = memoryview(data)[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() != digest:
        raise CacheFileError("corrupt", "it is cut short, or its bytes are not those that were written")
    try:
        frames = _frames(data, data.index(b"\n", len(_MAGIC)) + 1)
        manifest = _CODECS.manifest.decode(next(frames))
        records = [_CODECS.resource.decode(frame) for frame in frames]
    except (UndecodableRecordError, StopIteration) as error:
        raise CacheFileError("undecodable", str(error)) from error
    total = sum(resource_digest(record.collection, record.name, record.version) for record in records)
    if format_snapshot_digest(total) != manifest.digest or manifest.namespace != header.namespace:
        raise CacheFileError("mismatch", "its resources are not those that its manifest names")
    return header, manifest, records


def _framed(body: bytes) -> bytes:
    return len(body).to_bytes(_SIZE_BYTES, "big") + body


def _frames(data: bytes, at: int) -> Iterator[bytes]:
    """The frames' bodies; the hash has shown that all are there."""
    while size := int.from_bytes(data[at : at + _SIZE_BYTES], "big"):
        yield data[at + _SIZE_BYTES : at + _SIZE_BYTES + size]
        at += _SIZE_BYTES + size
