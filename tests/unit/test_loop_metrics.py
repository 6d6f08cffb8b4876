"""The event loop's own counters read as prometheus-client's do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from mcp_gateway.loop_metrics import LoopCounter, LoopHistogram

BUCKETS = (0.5, 1.0, 10.0)


def lines(registry: CollectorRegistry) -> list[str]:
    """What a scrape shows, without when it was made."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(amounts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9))))
def test_a_counter_reads_as_the_librarys(amounts: list[tuple[str, int]]) -> None:
    """By labels."""
    here, there = CollectorRegistry(), CollectorRegistry()
    ours, theirs = LoopCounter("c", "Doc.", ["l"], here), Counter("c", "Doc.", ["l"], registry=there)
    for label, amount in amounts:
        ours.labels(label).inc(amount)
        theirs.labels(label).inc(amount)
    assert lines(here) == lines(there)


@given(values=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0, 0.5, 0.7, 1, 2, 10, 11]))))
def test_a_histogram_reads_as_the_librarys(values: list[tuple[str, float]]) -> None:
    """Values on a bound are in its bucket."""
    here, there = CollectorRegistry(), CollectorRegistry()
    ours = LoopHistogram("h", "Doc.", ["l"], BUCKETS, here)
    theirs = Histogram("h", "Doc.", ["l"], buckets=BUCKETS, registry=there)
    for label, value in values:
        ours.labels(label).observe(value)
        theirs.labels(label).observe(value)
    assert lines(here) == lines(there)
