"""What is set aside always fits, and tells what it was."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from producers.listener.quarantine import Quarantine
from runtime.kafka_reader import set_aside
from schemas.avro_codec import codecs
from schemas.events import ConfigKey, Namespace
from schemas.records import MAX_QUARANTINED_VALUE_BYTES, Quarantined
from schemas.topics import MAX_RECORD_BYTES

KAFKAS_OWN_LIMIT = 1024 * 1024
"""The default of `max.message.bytes`: where somebody else made the topic."""


class Record:
    """A record as Kafka's client hands it over."""

    def __init__(self, key: bytes | str | None, value: bytes | None) -> None:
        self._key, self._value = key, value

    def topic(self) -> str:
        return "shiplog.registry.events"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 77

    def key(self) -> bytes | str | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value


class Writer:
    """Takes what it is given."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, _: str, *, partition: int, key: bytes, value: bytes) -> bool:
        assert partition == -1
        assert len(key) < 5000
        assert len(key) + len(value) < KAFKAS_OWN_LIMIT
        self.written.append(value)
        return True


@pytest.mark.parametrize(
    "size", [0, 1, MAX_QUARANTINED_VALUE_BYTES, MAX_QUARANTINED_VALUE_BYTES + 1, MAX_RECORD_BYTES]
)
def test_a_record_of_any_size_is_set_aside_with_its_size_and_hash(size: int) -> None:
    """Seen: one near 16 MiB could not be written, and the materializer started over without end."""
    key, value = b"k" * size, b"v" * size
    made = set_aside(Record(key, value), reason="r", detail="d" * size, process="p")  # type: ignore[arg-type]
    codec = codecs().quarantined
    written = codec.encode(made)
    assert len(written) + len(made.key) < KAFKAS_OWN_LIMIT
    found = codec.decode(written)
    assert (found.topic, found.partition, found.offset) == ("shiplog.registry.events", 3, 77)
    assert (found.key_size, found.value_size) == (size, size)
    assert found.value_sha256 == hashlib.sha256(value).hexdigest()
    assert value.startswith(found.value)
    assert key.startswith(found.key)
    assert len(found.value) == min(size, MAX_QUARANTINED_VALUE_BYTES)


@pytest.mark.parametrize(("key", "value"), [(None, None), ("text", b""), (b"\xff", b"\xff")])
def test_a_record_without_key_or_value_is_set_aside_too(key: bytes | str | None, value: bytes | None) -> None:
    """Empty, with the hash of nothing."""
    made = set_aside(Record(key, value), reason="r", detail="half \ud800 a pair", process="p")  # type: ignore[arg-type]
    assert codecs().quarantined.decode(codecs().quarantined.encode(made)) == made
    assert made.detail == "half ? a pair"


def test_records_of_before_values_were_cut_are_whole() -> None:
    """Their size is not known to their reader: minus one says so."""
    old = Quarantined(
        topic="t", partition=0, offset=0, process="p", reason="r", detail="d", key=b"", value=b"v", at=1
    )
    assert (old.key_size, old.value_size, old.value_sha256) == (-1, -1, "")


@pytest.mark.parametrize(
    "value",
    [
        "x" * 20_000_000,
        {"a": ["y" * 20_000_000]},
        [[]] * 1_000_000,
        "\ud800",
        {"k": "\udfff"},
        object(),
        10**400,
        None,
    ],
    ids=["text", "object", "wide", "surrogate", "in an object", "no JSON", "huge", "null"],
)
def test_whatever_nacos_said_is_set_aside_by_a_listener(value: Any) -> None:
    """It fits, whatever it is."""
    writer = Writer()
    quarantine = Quarantine(writer, codecs().quarantined, datacenter="dc1", process="p")  # type: ignore[arg-type]
    key = ConfigKey("ISTIO", "x" * 100_000)
    quarantine.set_aside(Namespace("public"), key, reason="r", detail="d" * 5000, value=value)
    (written,) = writer.written
    found = codecs().quarantined.decode(written)
    assert (found.reason, found.key_size) == ("r", len(b"public|ISTIO|") + 100_000)
    assert found.value_size >= len(found.value)


def test_what_is_nested_without_end_is_set_aside_by_a_listener() -> None:
    """Neither orjson nor Python writes it down."""
    deep: Any = []
    for _ in range(1020):
        deep = [deep]
    writer = Writer()
    quarantine = Quarantine(writer, codecs().quarantined, datacenter="dc1", process="p")  # type: ignore[arg-type]
    quarantine.set_aside(Namespace("public"), ConfigKey("g", "d"), reason="r", detail="", value=deep)
    assert codecs().quarantined.decode(writer.written[0]).value == b"a list that is nested too deep"
