"""The partitioner agrees with Kafka's Java client."""

import pytest

from schemas.partitioner import murmur2, partition_of


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_murmur2_gives_what_kafkas_java_client_gives(text: str, signed: int) -> None:
    """These are the vectors of Kafka's own UtilsTest."""
    assert murmur2(text.encode()) == signed & 0xFFFFFFFF


def test_a_namespace_has_one_partition() -> None:
    """Sign bit cleared, modulo the count: the Java client's toPositive."""
    assert partition_of("public", 8) == (murmur2(b"public") & 0x7FFFFFFF) % 8
    assert {partition_of(f"ns-{number}", 8) for number in range(200)} == set(range(8))
