"""What is counted decides what is left to find; refusals and restatements wait longer and longer."""

from __future__ import annotations

import pytest

from producers.errors import NacosForbiddenError, NacosGarbageError, NacosRefusedError
from producers.listener.census import Census
from producers.listener.keyframes import Keyframes
from producers.listener.namespace_view import Kept, NamespaceView
from producers.listener.refusals import Refusals
from producers.listener.restating import Restating
from producers.metrics import NamespaceFacts, _together
from schemas.events import Namespace, ServiceKey

A, B, C = (ServiceKey("g", name) for name in "abc")
NS, OTHER = Namespace("ns"), Namespace("other")


def test_a_count_that_differs_from_the_names_asks_for_a_listing() -> None:
    """And what it shows too few of is left to find."""
    census = Census()
    assert not census.is_whole
    census.count(3)
    assert census.differs
    census.list([A, B], unusable=0, followed=[])
    assert (census.left_to_find, census.differs, census.is_whole) == (1, True, False)
    census.push([C], [])
    assert (census.left_to_find, census.differs, census.is_whole) == (0, False, True)


def test_names_that_cannot_be_used_are_counted() -> None:
    """They are not looked for without end."""
    census = Census()
    census.count(3)
    census.list([A, B], unusable=1, followed=[])
    assert census.is_whole


def test_a_service_that_is_followed_is_not_left_to_find() -> None:
    """A listing that skips it asks for another one; it is known all the same."""
    census = Census()
    census.count(2)
    census.list([A], unusable=0, followed=[B])
    assert (census.left_to_find, census.differs, census.is_whole) == (0, True, True)


def test_a_new_service_is_looked_for_while_a_vanished_one_is_not_confirmed() -> None:
    """Their numbers make up for each other; the names that are told do not."""
    census = Census()
    census.count(1)
    census.list([A], unusable=0, followed=[A, B])
    census.count(2)
    assert census.differs


def test_listings_that_never_show_what_is_counted_become_fewer() -> None:
    """After five in a row that made no difference; one that does begins anew."""
    census = Census()
    for _ in range(5):
        assert not census.is_stubborn
        census.count(2)
        census.list([A], unusable=0, followed=[])
    assert census.is_stubborn
    census.list([A, B], unusable=0, followed=[])
    assert not census.is_stubborn


def test_while_services_are_being_registered_listings_go_on() -> None:
    """Each shows more than were counted a moment before: that is no reason to list less often."""
    census = Census()
    names = [ServiceKey("g", str(number)) for number in range(200)]
    for number in range(0, 200, 10):
        census.count(number + 5)
        assert census.differs
        census.list(names[: number + 8], unusable=0, followed=[])
        assert not census.is_stubborn


def test_a_refusal_is_asked_for_again_later_and_later() -> None:
    """Up to a minute; another reason is news; what is settled begins anew."""
    refusals: Refusals[ServiceKey] = Refusals()
    now, pauses = 0.0, []
    for _ in range(12):
        refusals.note(A, NacosRefusedError("x", 500, "no"), now)
        pause = next(one / 10 for one in range(1000) if refusals.due(now + one / 10))
        pauses.append(pause)
        now += pause
    assert pauses[0] <= 1.1
    assert 30 <= pauses[-1] <= 60.1
    assert not refusals.note(A, NacosRefusedError("x", 500, "no"), now)
    assert refusals.note(A, NacosRefusedError("x", 403, "no"), now)
    refusals.settle(A)
    assert A not in refusals


@pytest.mark.parametrize(
    ("errors", "is_the_servers"),
    [
        ([NacosRefusedError("x", 400, "bad name")], False),
        ([NacosForbiddenError("x", 403, "u")], True),
        ([NacosRefusedError("x", 400, "bad name"), NacosRefusedError("x", 503, "busy")], True),
        ([NacosGarbageError("html")], True),
    ],
)
def test_where_all_is_refused_and_not_for_its_name_the_server_is_at_fault(
    errors: list[Exception],
    is_the_servers: bool,  # noqa: FBT001
) -> None:
    """One service that is told makes it the others' own."""
    refusals: Refusals[ServiceKey] = Refusals()
    keys = [A, B][: len(errors)]
    for key, error in zip(keys, errors, strict=True):
        refusals.note(key, error, 0.0)
    assert (refusals.refuse_all(keys) is not None) is is_the_servers
    assert refusals.refuse_all([*keys, C]) is None
    assert refusals.refuse_all([]) is None


def test_one_keyframe_is_laid_at_a_time() -> None:
    """The others wait for their turn, so that a lost event spoils one of them."""
    keyframes = Keyframes()
    for name in (NS, OTHER):
        keyframes.begin(NamespaceView(name), "session")
    keyframes.take_turn(NS).first = 5
    assert not keyframes.is_turn_of(OTHER)
    assert keyframes.spoiled_by(4) == []
    assert keyframes.spoiled_by(7) == [NS]
    assert keyframes.complete(NS, 9, Kept()) == OTHER
    assert keyframes.is_turn_of(OTHER)
    assert (keyframes.spoiled_by(9), keyframes.spoiled_by(10)) == ([NS], [])
    assert keyframes.forget(OTHER) is None


def test_what_was_lost_is_stated_at_once_and_then_later_and_later() -> None:
    """Losses in between change nothing; after five quiet minutes it is at once again."""
    restating = Restating()
    now, pauses = 1000.0, []
    for _ in range(15):
        restating.schedule(NS, now)
        restating.schedule(NS, now + 0.01)
        pauses.append(restating.next_at - now)
        now = restating.next_at
        assert restating.due(now) == [NS]
        assert restating.due(now) == []
    assert pauses[0] == 0
    assert 0.5 <= pauses[1] <= 1
    assert 150 <= pauses[-1] <= 300
    restating.schedule(NS, now + 400)
    assert restating.next_at == now + 400


def test_namespaces_that_share_a_label_are_added_up() -> None:
    """Of links the worst counts, of ages the greatest."""
    one = NamespaceFacts(1, 2, 3, 2, 0.5, 0, 0, 0, 0)
    other = NamespaceFacts(10, 20, 30, 0, 7.0, 1, 2, 3, 1)
    assert _together(one, other) == NamespaceFacts(11, 22, 33, 0, 7.0, 1, 2, 3, 1)
