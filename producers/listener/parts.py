"""A service's state in several events, where one would be too large for a record. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.events import ServicePart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import Instance, ServiceState

_NUMBERS_BYTES = 32
"""Port, weight, flags, the lengths of two short texts, the beginning and end of a map."""
_LENGTHS_BYTES = 10


def in_parts(state: ServiceState, most_bytes: int) -> list[ServicePart]:
    """The state's instances in as many parts as it takes for each to have that size at most, or one instance."""
    chunks: list[list[Instance]] = [[]]
    left = most_bytes
    for instance in state.instances:
        size = encoded_size(instance)
        if size > left and chunks[-1]:
            chunks.append([])
            left = most_bytes
        chunks[-1].append(instance)
        left -= size
    return [
        ServicePart(
            key=state.key,
            instances=tuple(chunk),
            protect_threshold=state.protect_threshold,
            part=number,
            parts=len(chunks),
        )
        for number, chunk in enumerate(chunks)
    ]


def encoded_size(instance: Instance) -> int:
    """At least as many bytes as the instance takes in Avro."""
    texts = _bytes((instance.ip, instance.cluster))
    pairs = _bytes(instance.metadata) + _bytes(instance.metadata.values())
    return _NUMBERS_BYTES + texts + pairs + _LENGTHS_BYTES * len(instance.metadata)


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
