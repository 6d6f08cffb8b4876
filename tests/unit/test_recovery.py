"""Where a fold begins after a restart, whatever has become of the topics since."""

from __future__ import annotations

import pytest

from consumers.materializer.recovery import (
    Beginning,
    Committed,
    ControlBeginning,
    LogBounds,
    LogFault,
    begin_control,
    begin_events,
    from_metadata,
    to_metadata,
)

LOG = LogBounds(earliest=100, end=1000)


@pytest.mark.parametrize(
    ("what", "committed", "log", "folded_to", "expected"),
    [
        ("as it was left", Committed(900, 400), LOG, 899, Beginning(400, 900, 900)),
        ("nothing published of the last records", Committed(900, 400), LOG, 700, Beginning(400, 900, 900)),
        ("a first start", Committed(None), LOG, None, Beginning(100, 1000, 100)),
        ("an empty topic", Committed(None), LogBounds(earliest=0, end=0), None, Beginning(0, 0, 0)),
        ("offsets expired, snapshots stand", Committed(None), LOG, 899, Beginning(100, 1000, 100)),
        ("committed by Kafka's tools", Committed(900), LOG, 899, Beginning(100, 900, 900)),
        ("set back by Kafka's tools", Committed(200), LOG, 899, Beginning(100, 900, 200)),
        ("set to the beginning by Kafka's tools", Committed(0), LOG, 899, Beginning(100, 900, 100)),
        ("metadata beyond the offset", Committed(900, 950), LOG, 899, Beginning(100, 900, 900)),
        (
            "committed 1000, the log ends at 10",
            Committed(1000, 700), LogBounds(earliest=0, end=10), 999,
            Beginning(0, 10, 0, LogFault.SHORTER),
        ),
        (
            "the offset went with the topic, the snapshots did not",
            Committed(None), LogBounds(earliest=0, end=10), 999,
            Beginning(0, 10, 0, LogFault.SHORTER),
        ),
        (
            "committed in the new topic, the snapshots are of the former",
            Committed(5, 0), LogBounds(earliest=0, end=10), 999,
            Beginning(0, 10, 0, LogFault.SHORTER),
        ),
        (
            "made anew, and longer than it was",
            Committed(900, 400), LogBounds(earliest=0, end=5000, is_made_anew=True), 899,
            Beginning(0, 5000, 0, LogFault.MADE_ANEW),
        ),
        (
            "an empty topic where there was one",
            Committed(1000, 700), LogBounds(earliest=0, end=0), 999,
            Beginning(0, 0, 0, LogFault.SHORTER),
        ),
        ("keyframes are cleaned", Committed(900, 50), LOG, 899, Beginning(100, 900, 900, LogFault.CLEANED)),
        (
            "all that was folded is cleaned, and some that was not",
            Committed(90, 50), LOG, 89,
            Beginning(100, 1000, 100, LogFault.CLEANED),
        ),
        (
            "the same, and committed by Kafka's tools",
            Committed(90), LOG, 89,
            Beginning(100, 1000, 100, LogFault.CLEANED),
        ),
        (
            "found before, and not stated anew since",
            Committed(900, 400, True), LOG, 899,
            Beginning(400, 900, 900, LogFault.UNSETTLED),
        ),
    ],
)  # fmt: skip
def test_how_an_event_topic_is_read(
    what: str, committed: Committed, log: LogBounds, folded_to: int | None, expected: Beginning
) -> None:
    """Never beyond the log's end, which would never be reached; nothing older than what stands is published."""
    found = begin_events(committed, log, folded_to)
    assert found == expected, what
    assert log.earliest <= found.start <= found.live_from <= log.end


@pytest.mark.parametrize(
    ("what", "committed", "log", "decided_to", "is_published", "expected"),
    [
        ("as it was left", Committed(7), LogBounds(earliest=0, end=9), 6, True, ControlBeginning(7)),
        ("nothing decided yet", Committed(None), LogBounds(earliest=0, end=0), None, True, ControlBeginning(0)),
        ("offsets expired", Committed(None), LogBounds(earliest=0, end=9), 6, True, ControlBeginning(0)),
        ("no snapshot left", Committed(7), LogBounds(earliest=0, end=9), None, False, ControlBeginning(0)),
        ("it ends earlier", Committed(7), LogBounds(earliest=0, end=2), 6, True, ControlBeginning(0, 2)),
        ("no offset, too short", Committed(None), LogBounds(earliest=0, end=2), 6, True, ControlBeginning(0, 2)),
        (
            "made anew, and longer than it was",
            Committed(7), LogBounds(earliest=0, end=20, is_made_anew=True), 6, True,
            ControlBeginning(0, 0),
        ),
        ("records deleted", Committed(1), LogBounds(earliest=3, end=9), 6, True, ControlBeginning(3)),
    ],
)  # fmt: skip
def test_how_the_control_topic_is_read(
    what: str,
    committed: Committed,
    log: LogBounds,
    decided_to: int | None,
    is_published: bool,  # noqa: FBT001 - a parameter of the table
    expected: ControlBeginning,
) -> None:
    """No decision is passed over because a former topic had its offset, none is lost with the snapshots."""
    found = begin_control(committed, log, decided_to=decided_to, is_published=is_published)
    assert found == expected, what


def test_what_is_committed_survives_as_metadata() -> None:
    """Of the group's committed offset; anything else there is no recovery offset."""
    assert from_metadata(50, to_metadata(42, "m-1")) == Committed(50, 42, owner="m-1")
    unsettled = Committed(50, 42, is_unsettled=True, owner="m-1")
    assert from_metadata(50, to_metadata(42, "m-1", is_unsettled=True)) == unsettled
    assert from_metadata(50, "recover-from=42") == Committed(50, 42), "as an older shiplog wrote it"
    assert from_metadata(-1001, None) == Committed(None)
    for text in (None, "", "x", "recover-from=", "recover-from=-1", "recover-from=\N{SUPERSCRIPT TWO}"):
        assert from_metadata(50, text) == Committed(50), text
