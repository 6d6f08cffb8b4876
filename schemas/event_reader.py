"""Reads the frequent events straight from their Avro bytes, faster than a general reader can. Pure.

These are the deltas and states of services: all of what a log is long for. Their schema is the present one, which
whoever calls has made sure of. `read` answers None for every other event, and for whatever is not as it mostly is
(names of more than 63 bytes, arrays in several blocks, bytes that are missing or left over): then fastavro reads
it, or says what is wrong with it. Where `read` answers, fastavro gives the same: a property test holds that.

It is the hottest path of recovery and audit. The change of one instance takes 6 us here; fastavro took 8, and the
typed event another 6 (`python -m bench fold`).

https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from struct import Struct, error
from sys import intern
from typing import NamedTuple, TypeVar

from schemas.events import (
    Datacenter,
    Instance,
    InstanceKey,
    Namespace,
    RegistryEvent,
    ServiceDelta,
    ServiceKey,
    ServiceState,
    SessionId,
    shared_port,
)

T = TypeVar("T")

_STATE, _DELTA = 2, 4  # the body's branches 1 and 2, zigzag encoded
_LONG = 0x81  # bits of a size that is negative, or of more than one byte
_MAX_NUMBER_BYTES = 10
_CONTINUED = tuple(sum(0x80 << 7 * n for n in range(size - 1)) for size in range(_MAX_NUMBER_BYTES + 1))
"""What the high bits of all bytes but the last add up to, by the number of bytes: taken off at once."""
_MAX_REMEMBERED = 4096
"""Bytes of metadata; longer ones are read each time, so that a listener can't fill the memory."""
_MAX_KEPT = 16_384
_new = tuple.__new__  # a third of what the constructor of a named tuple takes
_double = Struct("<d").unpack_from
_weight_and_flags = Struct("<d???").unpack_from
_WEIGHT_AND_FLAGS_BYTES = 11


class _Envelope(NamedTuple):
    """How the events of a session and namespace begin, up to the epoch, and what that says."""

    encoded: bytes
    datacenter: Datacenter
    namespace: Namespace
    session: SessionId
    epoch: int


class EventReader:
    """Keeps what it read last: sessions, names of services and metadata are the same over and over.

    Equal metadata is one object, which nobody may change. Not bound to a thread.
    """

    def __init__(self) -> None:
        self._envelope = _Envelope(b"", Datacenter(""), Namespace(""), SessionId(""), 0)
        self._keys: dict[bytes, ServiceKey] = {}
        self._metadata: dict[bytes, dict[str, str]] = {}

    def read(self, data: bytes, at: int) -> RegistryEvent | None:
        """The event that begins there and ends with the data; None where it is for fastavro to say."""
        try:
            envelope = self._envelope
            if not data.startswith(envelope.encoded, at) or not envelope.encoded:
                envelope = self._envelope = _read_envelope(data, at)
            at += len(envelope.encoded)
            sequence, at = _long(data, at)
            observed_at, at = _large(data, at)
            branch = data[at]
            body: ServiceState | ServiceDelta
            if branch == _DELTA:
                key, at = self._key(data, at + 1)
                upserts, at = self._instances(data, at)
                removals, at = _removals(data, at) if data[at] else ((), at + 1)
                count, at = _long(data, at)
                digest, at = _large(data, at)
                body = _new(ServiceDelta, (key, upserts, removals, count, digest))
            elif branch == _STATE:
                key, at = self._key(data, at + 1)
                (threshold,) = _double(data, at)
                instances, at = self._instances(data, at + 8)
                body = _new(ServiceState, (key, instances, threshold))
            else:
                return None
        except (IndexError, ValueError, error):
            return None
        if at != len(data):
            return None
        _, datacenter, namespace, session, epoch = envelope
        return _new(RegistryEvent, (datacenter, namespace, session, epoch, sequence, observed_at, body))

    def _key(self, data: bytes, at: int) -> tuple[ServiceKey, int]:
        size = data[at]
        then = at + 1 + (size >> 1)
        size |= data[then]
        if size & _LONG:
            raise ValueError("a name of more than 63 bytes")
        end = then + 1 + (data[then] >> 1)
        encoded = data[at:end]
        key = self._keys.get(encoded)
        if key is None:
            group, service = data[at + 1 : then].decode(), data[then + 1 : end].decode()
            key = _keep(self._keys, encoded, ServiceKey(group, service))
        return key, end

    def _instances(self, data: bytes, at: int) -> tuple[tuple[Instance, ...], int]:
        # Sizes are taken apart right here: a call for each would cost a third of the whole.
        count, at = (data[at] >> 1, at + 1) if not data[at] & _LONG else _size(data, at)
        if not count:
            return (), at
        found = []
        for _ in range(count):
            size = data[at]
            then = at + 1 + (size >> 1)
            ip = data[at + 1 : then].decode()
            port, at = _long(data, then)
            size |= data[at]
            if size & _LONG:
                raise ValueError("an address or a cluster of more than 63 bytes")
            then = at + 1 + (data[at] >> 1)
            cluster = intern(data[at + 1 : then].decode())
            begin = then + _WEIGHT_AND_FLAGS_BYTES
            at = _skip_map(data, begin)
            encoded = data[begin:at]
            metadata = self._metadata.get(encoded)
            if metadata is None:
                metadata = _map(encoded)
                if len(encoded) <= _MAX_REMEMBERED:
                    _keep(self._metadata, encoded, metadata)
            flagged = _weight_and_flags(data, then)
            found.append(_new(Instance, (ip, shared_port(port), cluster, *flagged, metadata)))
        if data[at]:
            raise ValueError("several blocks")
        return tuple(found), at + 1


def _read_envelope(data: bytes, begin: int) -> _Envelope:
    datacenter, at = _text(data, begin)
    namespace, at = _text(data, at)
    session, at = _text(data, at)
    epoch, at = _long(data, at)
    return _Envelope(data[begin:at], Datacenter(datacenter), Namespace(namespace), SessionId(session), epoch)


def _removals(data: bytes, at: int) -> tuple[tuple[InstanceKey, ...], int]:
    count, at = _size(data, at)
    found = []
    for _ in range(count):
        ip, at = _text(data, at)
        port, at = _long(data, at)
        cluster, at = _text(data, at)
        found.append(InstanceKey(ip, port, cluster))
    return tuple(found), _end(data, at)


def _map(encoded: bytes) -> dict[str, str]:
    count, at = _size(encoded, 0)
    found = {}
    for _ in range(count):
        key, at = _text(encoded, at)
        found[key], at = _text(encoded, at)
    return found


def _skip_map(data: bytes, at: int) -> int:
    """Behind a map of texts."""
    count, at = (data[at] >> 1, at + 1) if not data[at] & _LONG else _size(data, at)
    if not count:
        return at
    for _ in range(2 * count):
        size = data[at]
        if size & _LONG:
            size, at = _size(data, at)
            at += size
        else:
            at += 1 + (size >> 1)
    return _end(data, at)


def _text(data: bytes, at: int) -> tuple[str, int]:
    size, at = _size(data, at)
    end = at + size
    return data[at:end].decode(), end


def _size(data: bytes, at: int) -> tuple[int, int]:
    """The length of a text, or the count of an array's or a map's only block, or its end.

    Raises:
        ValueError: negative: a block with its size in bytes, which our writers don't write.
    """
    number, at = _long(data, at)
    if number < 0:
        raise ValueError("a negative size")
    return number, at


def _long(data: bytes, at: int) -> tuple[int, int]:
    number = data[at]
    if number < 0x80:
        at += 1
    elif (second := data[at + 1]) < 0x80:  # a port, mostly
        number, at = number - 0x80 + (second << 7), at + 2
    else:
        return _large(data, at)
    return (number >> 1) ^ -(number & 1), at


def _large(data: bytes, at: int) -> tuple[int, int]:
    """As `_long`, faster for numbers of many bytes: times and hashes.

    Raises:
        ValueError: more than 64 bits, or the data ends.
    """
    number = shift = 0
    for byte in data[at : at + _MAX_NUMBER_BYTES]:
        number += byte << shift
        shift += 7
        if byte < 0x80:
            size = shift // 7
            number -= _CONTINUED[size]
            if number >> 64:
                break
            return (number >> 1) ^ -(number & 1), at + size
    raise ValueError("a number too long")


def _end(data: bytes, at: int) -> int:
    """Behind the mark that no block follows.

    Raises:
        ValueError: another block follows.
    """
    if data[at]:
        raise ValueError("several blocks")
    return at + 1


def _keep(kept: dict[bytes, T], encoded: bytes, value: T) -> T:
    """Remembers a value; all are forgotten when they are too many."""
    if len(kept) >= _MAX_KEPT:
        kept.clear()
    kept[encoded] = value
    return value
