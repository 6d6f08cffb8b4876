"""What a keyframe leaves as it was, and states that come in parts. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from schemas.events import ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.events import ConfigKey, Instance, ServiceKey, ServicePart, SyncCompleted


def gone_services(keyframe: SyncCompleted, unstated: Iterable[ServiceKey]) -> set[ServiceKey]:
    """Of the services that a keyframe did not state, those that are gone; the others stay as they were."""
    return set() if keyframe.keeps_all_services else set(unstated).difference(keyframe.kept_services)


def gone_items(keyframe: SyncCompleted, unstated: Iterable[ConfigKey]) -> set[ConfigKey]:
    """Of the config items that a keyframe did not state, those that are gone; the others stay as they were."""
    patterns = keyframe.kept_item_groups
    return {
        item
        for item in set(unstated).difference(keyframe.kept_items)
        if not any(fnmatchcase(item.group, pattern) for pattern in patterns)
    }


@dataclass(slots=True)
class PartedState:
    """The parts of a service's state that were read so far."""

    key: ServiceKey
    parts: int
    read: int = 0
    instances: list[Instance] = field(default_factory=list)

    def takes(self, part: ServicePart) -> bool:
        """Whether it is the next one of this state; then it is added."""
        if (part.key, part.parts, part.part) != (self.key, self.parts, self.read):
            return False
        self.instances += part.instances
        self.read += 1
        return True


def next_part(former: PartedState | None, part: ServicePart) -> PartedState | ServiceState | None:
    """What is read after a part: more of the state, or all of it; None for a part that does not follow.

    The parts of one state follow each other in a session, so a namespace has one such state at a time.
    """
    parted = PartedState(part.key, part.parts) if part.part == 0 or former is None else former
    if not parted.takes(part):
        return None
    if parted.read < parted.parts:
        return parted
    return ServiceState(key=part.key, instances=tuple(parted.instances), protect_threshold=part.protect_threshold)
