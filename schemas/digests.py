"""Hashes of content: of an instance, a service, a resource, a snapshot.

Sums of hashes are order-independent and can be kept up to date by one addition and one subtraction per
change, so a service of 20,000 instances costs what changed in it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import Instance

SERVICE_DIGEST_MODULUS = 1 << 63
"""Keeps a service's digest within an Avro `long`."""

SNAPSHOT_DIGEST_MODULUS = 1 << 128


def instance_digest(instance: Instance, metadata_text: str | None = None) -> int:
    """The hash of everything Nacos says of an instance, below 2^63.

    Every text is preceded by its length, so no two instances write the same bytes. `metadata_text` is that of its
    metadata, where the caller has it.
    """
    ip, port, cluster, weight, healthy, enabled, ephemeral, metadata = instance
    if metadata_text is None:
        metadata_text = text_of_metadata(metadata)
    text = (
        f"{len(ip)}:{ip}{port};{len(cluster)}:{cluster}{weight!r};"
        f"{'1' if healthy else '0'}{'1' if enabled else '0'}{'1' if ephemeral else '0'}{metadata_text}"
    ).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def text_of_metadata(metadata: dict[str, str]) -> str:
    """Metadata as an instance's hash takes it in, in the order of its keys."""
    return "".join([f"{len(k)}:{k}{len(v)}:{v}" for k, v in sorted(metadata.items())])


def service_digest(instances: Iterable[Instance]) -> int:
    """The sum of the instances' hashes, modulo 2^63."""
    return sum(map(instance_digest, instances)) % SERVICE_DIGEST_MODULUS


def content_digest(*parts: bytes) -> str:
    """A hash of byte strings in order, as 32 hex digits; where one ends and the next begins counts."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(len(part).to_bytes(8, "big"))
        h.update(part)
    return h.hexdigest()


def resource_digest(collection: str, name: str, version: str) -> int:
    """One resource's share of a snapshot's digest, below 2^128."""
    text = f"{collection}\n{name}\n{version}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")


def format_snapshot_digest(total: int) -> str:
    """A snapshot's digest, the sum of its resources' shares, as 32 hex digits."""
    return f"{total % SNAPSHOT_DIGEST_MODULUS:032x}"
