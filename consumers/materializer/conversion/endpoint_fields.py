"""The fields of an endpoint, encoded: maps in the order of their keys as Python sorts them. Pure.

protobuf's own deterministic order puts a longer key before one that it begins with. Each endpoint is written in
one order only, whichever way it is made, so that equal content has equal bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry
from schemas.varint import varint

if TYPE_CHECKING:
    from collections.abc import Mapping

_ADDRESS_TAG, _PORTS_TAG, _LABELS_TAG = 0x0A, b"\x12", b"\x1a"
_VARINTS = tuple(varint(number) for number in range(1024))


def length_of(data: bytes) -> bytes:
    """The length as it precedes the data."""
    size = len(data)
    return _VARINTS[size] if size < len(_VARINTS) else varint(size)


def text_field(tag: int, text: str) -> bytes:
    """A field that holds text."""
    data = text.encode()
    size = len(data)
    return (bytes((tag, size)) if size < 0x80 else bytes((tag,)) + varint(size)) + data


def port_field(name: str, number: int) -> bytes:
    """An entry of an endpoint's ports."""
    entry = text_field(0x0A, name) + b"\x10" + varint(number)
    return _PORTS_TAG + length_of(entry) + entry


def port_fields(ports: Mapping[str, int]) -> bytes:
    """An endpoint's ports."""
    return b"".join(port_field(name, number) for name, number in sorted(ports.items()))


def label_field(key: str, value: str) -> bytes:
    """An entry of an endpoint's labels."""
    entry = text_field(0x0A, key) + text_field(0x12, value)
    return _LABELS_TAG + length_of(entry) + entry


def encode(entry: WorkloadEntry) -> bytes:
    """The endpoint."""
    rest = WorkloadEntry(
        network=entry.network,
        locality=entry.locality,
        weight=entry.weight,
        service_account=entry.service_account,
    )
    return b"".join(
        (
            text_field(_ADDRESS_TAG, entry.address) if entry.address else b"",
            port_fields(entry.ports),
            *(label_field(key, value) for key, value in sorted(entry.labels.items())),
            rest.SerializeToString(deterministic=True),
        )
    )
