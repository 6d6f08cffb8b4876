"""Pauses between attempts: longer and longer, never all at once, short again after a good connection."""

from __future__ import annotations

from runtime.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_are_shortened_at_random() -> None:
    """Each is between a half and the whole of its step."""
    backoff = Backoff(first_s=0.2, max_s=10.0)
    for whole in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0):
        assert whole / 2 <= backoff.pause_s(0.1) <= whole
    assert len({Backoff(first_s=1.0, max_s=2.0).pause_s(0) for _ in range(20)}) > 10


def test_a_connection_that_lasted_begins_anew() -> None:
    """After a good one the pause is short, however many faults came before."""
    backoff = Backoff(first_s=0.2, max_s=10.0)
    for _ in range(10):
        backoff.pause_s(0.1)
    assert backoff.pause_s(9.9) >= 5.0
    assert backoff.pause_s(10.0) <= 0.2
    assert backoff.pause_s(0.1) <= 0.4
