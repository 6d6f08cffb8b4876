"""The audit trail: complete, or it says where it is not."""

from __future__ import annotations

from mcp_gateway.deliveries import DeliveryTrail, Recipient
from schemas.avro_codec import codecs
from schemas.records import Delivery, DeliveryKind

CODEC = codecs().delivery
PEER = Recipient("ipv4:127.0.0.1:1", "mcp", node="pilot-1")


class Queue:
    """A queue with so much room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.records: list[Delivery] = []

    def write(self, key: bytes, value: bytes) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.records.append(CODEC.decode(value))
        assert key == self.records[-1].pilot.encode()
        return True


def trail(queue: Queue | None) -> DeliveryTrail:
    """A trail into that queue."""
    return DeliveryTrail(queue, CODEC, gateway="gw-1")


def test_each_push_and_answer_is_written() -> None:
    """Who, what, how much, up to where in the log; the peer's complaint."""
    queue = Queue(10)
    kept = trail(queue)
    kept.sent(PEER, "c", "v1", 100, {"t-0": 7})
    kept.acknowledged(PEER, "c", "v1")
    kept.refused(PEER, "c", "v2", 3, "no")
    sent, ack, nack = queue.records
    assert (sent.kind, sent.pilot, sent.gateway, sent.version, sent.bytes) == (
        DeliveryKind.SENT, "pilot-1", "gw-1", "v1", 100,
    )  # fmt: skip
    assert sent.folded_to == {"t-0": 7}
    assert (ack.kind, ack.version) == (DeliveryKind.ACK, "v1")
    assert (nack.kind, nack.version, nack.code, nack.message) == (DeliveryKind.NACK, "v2", 3, "no")


def test_what_does_not_fit_is_written_as_a_gap() -> None:
    """Once there is room again, before the next delivery, with the number of those that are missing."""
    queue = Queue(1)
    kept = trail(queue)
    for number in range(5):
        kept.acknowledged(PEER, "c", str(number))
    queue.room = 10
    kept.acknowledged(PEER, "c", "5")
    kept.acknowledged(PEER, "c", "6")
    assert [record.kind for record in queue.records] == [
        DeliveryKind.ACK, DeliveryKind.GAP, DeliveryKind.ACK, DeliveryKind.ACK,
    ]  # fmt: skip
    assert queue.records[1].message == "4 deliveries are missing before this"


def test_a_gap_that_leaves_no_room_is_told_of_again() -> None:
    """The delivery behind it is missing too."""
    queue = Queue(0)
    kept = trail(queue)
    kept.acknowledged(PEER, "c", "1")
    queue.room = 1
    kept.acknowledged(PEER, "c", "2")
    queue.room = 2
    kept.acknowledged(PEER, "c", "3")
    assert [record.message for record in queue.records] == [
        "1 deliveries are missing before this", "1 deliveries are missing before this", "",
    ]  # fmt: skip


def test_what_kafka_never_took_is_written_as_a_gap() -> None:
    """Each loss once; until the gap is written, nothing is called whole."""
    queue = Queue(10)
    kept = trail(queue)
    for in_all in (0, 3, 3):
        kept.lost(in_all)
    kept.whole_until(100.0)
    kept.acknowledged(PEER, "c", "1")
    kept.whole_until(200.0)
    assert [(record.kind, record.message) for record in queue.records] == [
        (DeliveryKind.GAP, "3 deliveries are missing before this"),
        (DeliveryKind.ACK, ""),
        (DeliveryKind.WHOLE, ""),
    ]


def test_without_a_writer_nothing_is_kept() -> None:
    """The trail can be switched off."""
    trail(None).acknowledged(PEER, "c", "1")
