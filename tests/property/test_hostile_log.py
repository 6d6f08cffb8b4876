"""Records of the event topic: any bytes, any event that their schema allows, in any order."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.fold import Outcome
from schemas.errors import UndecodableRecordError
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    Instance,
    InstanceKey,
    Link,
    Namespace,
    NamespaceGone,
    RegistryEvent,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServicePart,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from tests.property.hostile import GOOD, SETTINGS, Way
from tests.unit.conversions import TOPIC, make

if TYPE_CHECKING:
    from collections.abc import Callable

ints = st.one_of(
    st.sampled_from([-(2**31), -1, 0, 1, 80, 65535, 65536, 2**31 - 1]), st.integers(-(2**31), 2**31 - 1)
)
longs = st.one_of(st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]), st.integers(-(2**63), 2**63 - 1))
names = st.one_of(
    st.sampled_from(
        ["a", "a_b", "a-b", "", "..", "-", "a|b", "public", "中文", "\x00", "x" * 300, "DEFAULT_GROUP"]
    ),
    st.text(max_size=20),
)
keys = st.builds(ServiceKey, names, names)
items = st.builds(ConfigKey, st.one_of(st.just("ISTIO"), names), names)
instances = st.builds(
    Instance,
    ip=st.one_of(st.sampled_from(["10.0.0.1", "host.example", "fe80::1%\x00", "::1", "1.2.3"]), names),
    port=ints,
    cluster=names,
    weight=st.floats(),
    healthy=st.booleans(),
    enabled=st.booleans(),
    ephemeral=st.booleans(),
    metadata=st.dictionaries(
        st.one_of(st.sampled_from(["service-port", "protocol", "region", "zone", "network"]), names),
        st.one_of(st.sampled_from(["0000655359", "1" * 5000, "grpc", "80"]), names),
        max_size=3,
    ),
)
many = st.lists(instances, max_size=3).map(tuple)
bodies = st.one_of(
    st.builds(ServiceState, key=keys, instances=many, protect_threshold=st.floats()),
    st.builds(
        ServiceDelta,
        key=keys,
        upserts=many,
        removals=st.lists(st.builds(InstanceKey, names, ints, names), max_size=2).map(tuple),
        count=ints,
        digest=longs,
    ),
    st.builds(
        ServicePart,
        key=keys,
        instances=many,
        protect_threshold=st.floats(),
        part=st.one_of(st.integers(-1, 2), ints),
        parts=st.one_of(st.integers(-1, 3), ints),
    ),
    st.builds(ServiceGone, key=keys),
    st.builds(ConfigState, key=items, content=st.text(max_size=50), content_type=names, md5=names),
    st.builds(ConfigGone, key=items),
    st.just(SyncStarted(reason="x")),
    st.builds(
        SyncCompleted,
        services=st.one_of(st.integers(0, 2), ints),
        config_items=st.one_of(st.integers(0, 2), ints),
        kept_services=st.lists(keys, max_size=2).map(tuple),
        keeps_all_services=st.booleans(),
        kept_items=st.lists(items, max_size=2).map(tuple),
        kept_item_groups=st.lists(
            st.one_of(st.sampled_from(["*", "[", "[z-a]", "**a**b", "?"]), names), max_size=2
        ).map(tuple),
    ),
    st.just(NamespaceGone()),
    st.builds(Heartbeat, link=st.sampled_from(Link), detail=names),
)
events = st.builds(
    RegistryEvent,
    datacenter=st.one_of(st.just("dc1"), names).map(Datacenter),
    namespace=st.one_of(st.just("public"), names).map(Namespace),
    session=st.one_of(st.just("s"), names).map(SessionId),
    epoch=st.one_of(st.just(1), longs),
    sequence=st.one_of(st.integers(0, 10), longs),
    observed_at=longs,
    body=bodies,
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bits turned, pieces cut out, doubled or put in; mostly behind the header."""
    found = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        where = chance.randrange(len(found) + 1)
        match chance.randrange(4):
            case 0 if where < len(found):
                found[where] ^= 1 << chance.randrange(8)
            case 1:
                del found[where : where + chance.randrange(8)]
            case 2:
                found[where:where] = found[where : where + chance.randrange(16)]
            case _:
                found[where:where] = chance.randbytes(chance.randrange(12))
    return bytes(found)


@given(st.lists(events, min_size=1, max_size=6), st.integers(0, 2**32))
@SETTINGS
def test_whatever_a_record_says_the_next_one_is_folded(found, seed) -> None:
    """As the listener could never write it, whole and damaged; no fault of ours, and a good service is published.

    Good means: of a listener with a higher epoch, that knows nothing of what was before.
    """
    chance, way = random.Random(seed), Way()
    codec = way.codecs.registry_event
    way.open()
    for event in found:
        data = codec.encode(event)
        for record in (data, damaged(data, chance)):
            with suppress(UndecodableRecordError):
                assert_folds(way, lambda record=record: codec.decode(record))
    top = max((there.epoch for there in way.partition._fold.state.datacenters.values()), default=0)
    if top == 2**63 - 1:
        return  # a session for ever: nobody is newer
    session: dict[str, Any] = {"epoch": top + 1, "session": SessionId("new")}
    good = ServiceState(key=GOOD, instances=(make(),))
    bodies_after = (SyncStarted(reason="x"), good, SyncCompleted(services=1, config_items=0))
    for sequence, body in enumerate(bodies_after):
        assert way.add(body, sequence=sequence, **session) is Outcome.APPLIED
    way.publish()
    names_of = {name for _, name in way.published}
    assert any(name.startswith("public/good") for name in names_of)


def assert_folds(way: Way, decode: Callable[[], RegistryEvent]) -> None:
    """The record is folded without a fault of ours, and what it changes is published."""
    outcome = way.partition.apply(TOPIC, way.offset, decode())
    way.offset += 1
    assert outcome is not Outcome.INTERNAL_FAULT, way.partition.faults
    way.publish()
