"""Which partition a namespace lives in: murmur2, as Kafka's Java client computes it.

Ours and named here, because every topic that carries a namespace must agree on it, whatever client
wrote the record. https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/utils/Utils.java
"""

from __future__ import annotations

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash with Kafka's seed, unsigned."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length - length % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(namespace: str, partitions: int) -> int:
    """The partition of a namespace among `partitions`."""
    return partition_of_key(namespace.encode(), partitions)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition of a record's key, as Kafka's Java client chooses it."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
