"""The short way to read frequent events gives what the general one gives, and leaves all else to it."""

from __future__ import annotations

import io
import json
from importlib import resources

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.avro_codec import AvroCodec, codecs
from schemas.errors import UndecodableRecordError
from schemas.event_reader import EventReader
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
    from_avro,
    to_avro,
)

GENERAL: AvroCodec[RegistryEvent] = AvroCodec(name="registry_event", to_avro=to_avro, from_avro=from_avro)
HEADER = 10

texts = st.one_of(st.text(max_size=5), st.text(min_size=60, max_size=200))
names = st.text(max_size=15)  # longer ones are left to the general reader
ports = st.integers(-(2**31), 2**31 - 1)
longs = st.integers(-(2**63), 2**63 - 1)
instances = st.lists(
    st.builds(
        Instance,
        ip=names,
        port=ports,
        cluster=names,
        weight=st.floats(allow_nan=False),
        healthy=st.booleans(),
        enabled=st.booleans(),
        ephemeral=st.booleans(),
        metadata=st.dictionaries(texts, texts, max_size=3),
    ),
    max_size=3,
).map(tuple)
keys = st.builds(ServiceKey, names, names)
bodies = st.one_of(
    st.builds(
        ServiceDelta,
        key=keys,
        upserts=instances,
        removals=st.lists(st.builds(InstanceKey, texts, ports, texts), max_size=3).map(tuple),
        count=ports,
        digest=longs,
    ),
    st.builds(ServiceState, key=keys, instances=instances, protect_threshold=st.floats(allow_nan=False)),
)
events = st.builds(
    RegistryEvent,
    datacenter=texts.map(Datacenter),
    namespace=texts.map(Namespace),
    session=texts.map(SessionId),
    epoch=longs,
    sequence=longs,
    observed_at=longs,
    body=bodies,
)


@given(written=st.lists(events, min_size=1, max_size=4))
def test_events_are_read_as_they_were_written(written: list[RegistryEvent]) -> None:
    """Whatever was read before."""
    reader = EventReader()
    for event in (*written, *written):
        assert reader.read(GENERAL.encode(event), HEADER) == event


@given(event=events, data=st.data())
def test_damaged_events_are_never_read_otherwise(event: RegistryEvent, data: st.DataObject) -> None:
    """Bytes altered, missing or added: what is read all the same, the general reader reads alike."""
    encoded = bytearray(GENERAL.encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(HEADER, len(encoded) - 1))
        encoded[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(HEADER, len(encoded)))
    _agree(bytes(encoded))
    _agree(bytes(encoded[:cut]))
    _agree(bytes(encoded) + data.draw(st.binary(max_size=3)))


@given(body=st.binary(max_size=60))
@example(body=b"\x80" * 12)
@example(body=b"\xff" * 9 + b"\x7f")
def test_garbage_is_left_to_the_general_reader(body: bytes) -> None:
    """Any bytes behind a good header."""
    _agree(GENERAL.encode(_EVENT)[:HEADER] + body)


def test_the_codec_takes_the_short_way_and_falls_back() -> None:
    """The codec of all processes says what is wrong with a record as the general reader does."""
    both = codecs().registry_event
    encoded = both.encode(_EVENT)
    assert both.decode(encoded) == _EVENT
    for damaged, reason in ((encoded[:-1], "bad_avro"), (encoded + b"\x00", "trailing_bytes")):
        with pytest.raises(UndecodableRecordError, match=reason):
            both.decode(damaged)


def _agree(encoded: bytes) -> None:
    found = EventReader().read(encoded, HEADER)
    if found is not None:
        assert repr(GENERAL.decode(encoded)) == repr(found)  # by their texts, since NaN equals nothing


_EVENT = RegistryEvent(
    Datacenter("dc1"),
    Namespace("public"),
    SessionId("s"),
    1,
    2,
    3,
    ServiceDelta(ServiceKey("g", "s"), (), (), 0, 0),
)


OLDER = fastavro.parse_schema(
    json.loads((resources.files("schemas") / "avro/superseded/registry_event.5bd494a18be3e270.avsc").read_text())
)


@given(events)
def test_events_of_the_former_schema_are_read_the_short_way_too(event: RegistryEvent) -> None:
    """In it states and deltas are as they are now: a log of before an upgrade is read as fast."""
    out = io.BytesIO()
    out.write(bytes.fromhex("c3015bd494a18be3e270"))
    fastavro.schemaless_writer(out, OLDER, to_avro(event))
    data = out.getvalue()
    found = EventReader().read(data, HEADER)
    assert found is None or found == event
    assert codecs().registry_event.decode(data) == event
