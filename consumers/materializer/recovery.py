"""Where a partition's fold begins after a restart, and whether the log still is the one that was folded. Pure.

The group's committed offset says how far the published snapshots are made of the log; its metadata, from which
offset a fold arrives at them. Both, and what manifests say, are held against what the log has now: a topic may
have been made anew, cut short (a broker restored from a backup, an unclean election) or cleaned by retention.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from consumers.materializer.fold_state import PartitionState

_PREFIX = "recover-from="
_UNSETTLED = "unsettled"
_BY = "by="


class LogFault(StrEnum):
    """Why a fold of the log does not arrive at what stands published."""

    MADE_ANEW = "made_anew"
    """The topic has another id than before."""
    SHORTER = "shorter"
    """The log ends before the last record that was folded."""
    CLEANED = "cleaned"
    """The log begins behind the keyframes that the fold needs."""
    UNSETTLED = "unsettled"
    """One of these was found before a restart, and not all namespaces were stated anew since."""


class Committed(NamedTuple):
    """A topic's committed offset, and what its metadata says; None where there is none.

    `owner` is the name of the process that committed it.
    """

    offset: int | None
    recover_from: int | None = None
    is_unsettled: bool = False
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBounds:
    """One partition of a topic as it is: its first offset, the one behind its last, whether it was made anew."""

    earliest: int
    end: int
    is_made_anew: bool = False


class Beginning(NamedTuple):
    """How a topic is read: from `start`; published behind `live_from`; records from `first_read` on are new.

    Below `live_from` events are folded and not published: what stands published is made of them, or they are older
    than it. Faults of records below `first_read` were set aside when they were read before.
    """

    start: int
    live_from: int
    first_read: int
    fault: LogFault | None = None


class ControlBeginning(NamedTuple):
    """How the control topic is read: from `start`.

    A published manifest that names an offset from `void_from` on names one of a former topic, and says nothing of
    the decisions that are there now. None: all hold.
    """

    start: int
    void_from: int | None = None


def begin_events(committed: Committed, log: LogBounds, folded_to: int | None) -> Beginning:
    """How an event topic is read; `folded_to` is the last offset of it that any published manifest names.

    Where nothing is committed, or the log is not the one that was folded, everything that is there is folded
    before anything is published: no former state is shown.
    """
    offset, recover_from, is_unsettled, _ = committed
    anew = Beginning(log.earliest, log.end, log.earliest)
    if log.is_made_anew:
        return anew._replace(fault=LogFault.MADE_ANEW)
    if max(offset or 0, 0 if folded_to is None else folded_to + 1) > log.end:
        return anew._replace(fault=LogFault.SHORTER)
    if offset is None:
        return anew
    live_from = max(offset, 0 if folded_to is None else folded_to + 1)
    if live_from < log.earliest:  # of what was cleaned unread nothing is known
        return anew._replace(fault=LogFault.CLEANED)
    first_read = max(offset, log.earliest)
    fault = LogFault.UNSETTLED if is_unsettled else None
    if recover_from is None or recover_from > offset:
        # Committed by other means, as by Kafka's own tools: all that is there is folded.
        return Beginning(log.earliest, live_from, first_read, fault)
    if recover_from < log.earliest:
        return Beginning(log.earliest, live_from, first_read, LogFault.CLEANED)
    return Beginning(recover_from, live_from, first_read, fault)


def begin_control(
    committed: Committed, log: LogBounds, *, decided_to: int | None, is_published: bool
) -> ControlBeginning:
    """How the control topic is read; `decided_to` is the last decision that any published manifest includes.

    Without any manifest all decisions are read again: those in force stood in the manifests.
    """
    offset = committed.offset
    if log.is_made_anew:
        return ControlBeginning(log.earliest, 0)
    if max(offset or 0, 0 if decided_to is None else decided_to + 1) > log.end:
        return ControlBeginning(log.earliest, log.end)
    if offset is None or not is_published:
        return ControlBeginning(log.earliest)
    return ControlBeginning(max(offset, log.earliest))


def recovery_offset(state: PartitionState, topic: str, next_offset: int) -> int:
    """The topic's offset from which folding gives this state again; `next_offset` when nothing is to be recovered.

    The oldest of the beginnings of each namespace's newest whole keyframe from which its datacenter's guard comes
    out the same. A namespace without one needs its first event.
    """
    return min(
        (
            max(
                (one.offset for one in namespace.keyframes if datacenter.guard.is_reproduced(one)),
                default=namespace.first_offset,
            )
            for datacenter in state.datacenters.values()
            if datacenter.topic == topic
            for namespace in datacenter.namespaces.values()
        ),
        default=next_offset,
    )


def to_metadata(recover_from: int, owner: str, *, is_unsettled: bool = False) -> str:
    """What is kept as metadata of the group's committed offset."""
    words = [f"{_PREFIX}{recover_from}", f"{_BY}{owner}", *([_UNSETTLED] if is_unsettled else [])]
    return " ".join(words)


def from_metadata(offset: int, metadata: str | None) -> Committed:
    """What the group has committed: a negative offset stands for nothing, as in Kafka's client."""
    words = (metadata or "").split(" ")
    digits = words[0].removeprefix(_PREFIX)
    return Committed(
        offset if offset >= 0 else None,
        int(digits) if digits.isdecimal() and digits.isascii() else None,
        _UNSETTLED in words,
        next((word.removeprefix(_BY) for word in words if word.startswith(_BY)), ""),
    )
