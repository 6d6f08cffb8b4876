"""Whoever waits for room gets it in turn, whatever the order in which others take it and give it back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.servers.in_flight import LARGE, InFlight

LIMIT = 10 * LARGE


class Sender:
    """Wants to send one large push; may be unable to when it is told."""

    def __init__(self, number: int, size: int, in_flight: InFlight, served: list[int], *, is_busy: bool) -> None:
        self.number, self.size, self.is_busy, self.is_sending = number, size, is_busy, False
        self._in_flight, self._served = in_flight, served

    def ask(self) -> None:
        if self._in_flight.is_full:
            self._in_flight.wait(self)
        else:
            self._in_flight.take(self.size)
            self._served.append(self.number)
            self.is_sending = True

    def room(self) -> None:
        if not self.is_busy:
            self.ask()

    def end(self) -> None:
        self._in_flight.leave(self)
        if self.is_sending:
            self.is_sending = False
            self._in_flight.give_back(self.size)


@given(
    senders=st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=30),
    ends=st.lists(st.integers(0, 29), max_size=60),
)
def test_room_is_given_in_turn_and_never_beyond_the_limit_by_more_than_a_push(
    senders: list[tuple[int, bool]], ends: list[int]
) -> None:
    """Nobody waits while there is room, and when all others have ended everyone was served who still wanted it."""
    in_flight, served = InFlight(LIMIT), list[int]()
    all_of_them = [
        Sender(number, size * LARGE, in_flight, served, is_busy=is_busy)
        for number, (size, is_busy) in enumerate(senders)
    ]
    gone = set[int]()
    steps = [*all_of_them, *(all_of_them[number % len(all_of_them)] for number in ends), *all_of_them]
    for number, sender in enumerate(steps):
        if number < len(all_of_them):
            sender.ask()
        else:
            gone.add(sender.number)
            sender.end()
        assert in_flight.bytes == sum(one.size for one in all_of_them if one.is_sending)
        assert in_flight.bytes < LIMIT + max(one.size for one in all_of_them)
        assert in_flight.is_full or not in_flight.waiting
    assert served == sorted(served)
    assert in_flight.bytes == 0
    assert not in_flight.waiting
    never = {sender.number for sender in all_of_them} - set(served)
    assert all(all_of_them[number].is_busy or number in gone for number in never)


def test_small_pushes_are_not_counted() -> None:
    """They would only be counted twice: the number of streams is limited."""
    in_flight = InFlight(1)
    in_flight.take(LARGE - 1)
    assert not in_flight.is_full
    in_flight.give_back(LARGE - 1)
    assert in_flight.bytes == 0
