"""Where a partition's fold must begin to be whole: at keyframes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consumers.materializer.fold import PartitionState

_PREFIX = "recover-from="


def recovery_offset(state: PartitionState, next_offset: int) -> int:
    """The offset from which folding gives this state again; `next_offset` when there is nothing to recover.

    The oldest of the newest whole keyframes' beginnings. A namespace that has none yet needs its first event.
    """
    return min(
        (
            namespace.first_offset if namespace.keyframe_offset is None else namespace.keyframe_offset
            for datacenter in state.datacenters.values()
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
