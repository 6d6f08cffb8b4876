"""A state in parts is the state, and no part is larger than it may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.unstated import next_part
from producers.listener.parts import encoded_size, in_parts
from schemas.avro_codec import codecs
from schemas.events import (
    Datacenter,
    Instance,
    Namespace,
    RegistryBody,
    RegistryEvent,
    ServiceKey,
    ServiceState,
    SessionId,
)

SERVICE = ServiceKey("g", "s")
CODEC = codecs().registry_event
ENVELOPE_BYTES = 100

texts = st.one_of(st.text(max_size=20), st.text(alphabet="值\u0007x", max_size=100))
instances = st.lists(
    st.builds(
        Instance,
        ip=texts,
        port=st.integers(1, 65535),
        cluster=texts,
        weight=st.floats(allow_nan=False),
        healthy=st.booleans(),
        enabled=st.booleans(),
        ephemeral=st.booleans(),
        metadata=st.dictionaries(texts, texts, max_size=5),
    ),
    max_size=20,
).map(tuple)


def size_of(body: RegistryBody) -> int:
    """The event's bytes."""
    event = RegistryEvent(Datacenter("dc"), Namespace("ns"), SessionId("s"), 1, 1, 1, body)
    return len(CODEC.encode(event))


@given(instances, st.integers(1, 2000), st.floats(0, 1))
def test_parts_put_together_are_the_state(here: tuple[Instance, ...], most: int, threshold: float) -> None:
    """In their order; and each fits, unless it is a single instance that does not."""
    state = ServiceState(key=SERVICE, instances=here, protect_threshold=threshold)
    parts = in_parts(state, most)
    read = None
    for part in parts:
        assert not isinstance(read, ServiceState)
        read = next_part(read, part)
        assert len(part.instances) <= 1 or size_of(part) <= most + ENVELOPE_BYTES
    assert read == state


@given(instances)
def test_the_size_of_an_instance_is_never_too_small(here: tuple[Instance, ...]) -> None:
    """What is reckoned is at least what Avro writes."""
    empty = size_of(ServiceState(key=SERVICE, instances=()))
    for one in here:
        assert size_of(ServiceState(key=SERVICE, instances=(one,))) - empty <= encoded_size(one)
