"""Where a partition's fold must begin to be whole: at keyframes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumers.materializer.fold_state import PartitionState

_PREFIX = "recover-from="


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


def to_metadata(offset: int) -> str:
    """A recovery offset as metadata of the group's committed offset."""
    return f"{_PREFIX}{offset}"


def from_metadata(metadata: str | None) -> int | None:
    """The recovery offset in a committed offset's metadata; None when there is none."""
    digits = (metadata or "").removeprefix(_PREFIX)
    return int(digits) if digits.isdigit() else None
