"""When partitions at fault are read again."""

from __future__ import annotations

from itertools import pairwise

from mcp_gateway.rereads import Rereads


def test_the_pauses_double_up_to_a_bound() -> None:
    """Each is shortened by up to half."""
    rereads = Rereads(1.0, 8.0)
    now, readings = 0.0, []
    while now < 60.0:
        if rereads.due([3], now):
            readings.append(now)
        now += 0.01
    pauses = [later - earlier for earlier, later in pairwise(readings)]
    assert 0.5 <= readings[0] <= 1.02
    assert all(0.9 <= pause <= 8.1 for pause in pauses)
    assert pauses[-1] >= 4.0


def test_a_partition_that_matches_again_begins_anew() -> None:
    """Its next fault is answered as soon as its first."""
    rereads = Rereads(1.0, 100.0)
    now = 0.0
    while now < 50.0:
        rereads.due([0], now)
        now += 0.5
    assert rereads.due([], now) == []
    assert rereads.due([0], now) == []
    assert rereads.due([0], now + 1.0) == [0]
