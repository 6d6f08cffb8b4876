"""The short way to write a delivery gives the bytes that fastavro gives."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.avro_codec import AvroCodec, codecs
from schemas.records import Delivery, DeliveryKind, delivery_from_avro, delivery_to_avro

GENERAL: AvroCodec[Delivery] = AvroCodec(name="delivery", to_avro=delivery_to_avro, from_avro=delivery_from_avro)

texts = st.one_of(st.text(max_size=5), st.text(min_size=60, max_size=200))
longs = st.integers(-(2**63), 2**63 - 1)
fields: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(Delivery._fields, texts)
fields |= {
    "kind": st.sampled_from(DeliveryKind),
    "bytes": longs,
    "code": st.integers(-(2**31), 2**31 - 1),
    "at": longs,
    "folded_to": st.dictionaries(texts, longs, max_size=3),
}


@given(delivery=st.builds(Delivery, **fields))
def test_the_bytes_are_fastavros(delivery: Delivery) -> None:
    """For any delivery; so whoever has the schema can read it."""
    written = codecs().delivery.encode(delivery)
    assert written == GENERAL.encode(delivery)
    assert GENERAL.decode(written) == delivery
