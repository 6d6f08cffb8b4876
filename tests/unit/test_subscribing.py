"""Topics that Kafka's group does not hand out to a static member that comes back."""

from __future__ import annotations

from itertools import pairwise

from consumers.materializer.subscribing import Subscribing

TOPICS = ["events", "dc2.events", "control"]
PRESENT = frozenset(TOPICS)
WHOLE = {(topic, number) for topic in TOPICS for number in (0, 1)}
LACKING = {one for one in WHOLE if one[0] != "dc2.events"}


def test_a_whole_assignment_is_left_alone() -> None:
    """So is one that lacks a topic which does not exist, and none at all."""
    subscribing = Subscribing(TOPICS)
    for now in range(100):
        assert subscribing.next(WHOLE, 1, PRESENT, now) is None
        assert subscribing.next(LACKING, 1, PRESENT - {"dc2.events"}, now) is None
        assert subscribing.next(set(), 1, PRESENT, now) is None


def test_a_topic_that_was_forgotten_is_asked_for() -> None:
    """The list is cut and made whole again: each change makes the group share all topics out anew."""
    subscribing = Subscribing(TOPICS)
    asked = [subscribing.next(LACKING, 1, PRESENT, now) for now in range(20)]
    assert asked == [None] * 15 + [["events", "control"]] + [None] * 4
    assert subscribing.next(set(), 1, PRESENT, 20) is None, "revoked"
    assert subscribing.next(LACKING, 2, PRESENT, 21) == TOPICS
    assert subscribing.next(WHOLE, 3, PRESENT, 22) is None


def test_one_partition_of_a_topic_is_lacking_too() -> None:
    """A topic is whole when its partitions are those that we have of the others."""
    subscribing = Subscribing(TOPICS)
    asked = [subscribing.next(WHOLE - {("dc2.events", 1)}, 1, PRESENT, now) for now in range(16)]
    assert asked[-1] == ["events", "control"]


def test_a_topic_that_is_never_handed_out_is_asked_for_less_and_less() -> None:
    """Each time costs every member of the group a recovery."""
    subscribing, assignment, cuts = Subscribing(TOPICS), 1, []
    for now in range(1000):
        topics = subscribing.next(LACKING, assignment, PRESENT, now)
        if topics is not None:
            assignment += 1
            cuts += [now] if topics != TOPICS else []
    assert [later - earlier for earlier, later in pairwise(cuts)] == [32, 62, 122, 242, 482]
