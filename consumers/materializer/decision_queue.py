"""Operators' decisions that arrived and are not carried out yet, for one partition.

A namespace's are carried out in their order; one that waits for a version to be rebuilt keeps only its own
namespace's waiting, and gives way to a later pin or unpin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from consumers.errors import NotRebuiltError
from schemas.control import Pin, Unpin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from schemas.control import ControlEvent
    from schemas.events import Namespace
    from schemas.records import ResourceRecord

    Records = Mapping[tuple[str, str], ResourceRecord]


_SUPERSEDED = "another decision came before it was rebuilt"


class Rebuild(Protocol):
    """What is being rebuilt; see `Rebuilding`."""

    @property
    def result(self) -> Records | NotRebuiltError | None:
        """None until it is done, then the records or why there are none."""

    def abandon(self) -> None:
        """It is no longer wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOut:
    """A decision whose time has come; `pinned` is what a pin goes back to."""

    offset: int
    event: ControlEvent
    pinned: Records | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """A decision that can't be carried out; without a reason when it was, before a restart."""

    offset: int
    event: ControlEvent
    reason: str


@dataclass(slots=True)
class DecisionQueue:
    """`rebuild` begins to rebuild what a pin asks for, and answers with something that has a `result` some day.

    It answers None while there is no room for another one, and is asked again at the next `take`.
    """

    rebuild: Callable[[Namespace, Pin], Rebuild | None]
    _waiting: dict[int, ControlEvent] = field(default_factory=dict)
    _rebuilding: dict[Namespace, tuple[int, Rebuild]] = field(default_factory=dict)

    def add(self, offset: int, event: ControlEvent) -> None:
        """A decision arrived."""
        self._waiting[offset] = event

    def first_waiting(self) -> int | None:
        """The offset of the oldest that is not carried out."""
        return min(self._waiting, default=None)

    def describe(self) -> list[dict[str, object]]:
        """The decisions that are not carried out, oldest first; for operators."""
        rebuilding = {offset for offset, _ in self._rebuilding.values()}
        return [
            {
                "kind": type(event.body).__name__,
                "namespace": event.namespace,
                "author": event.author,
                "offset": offset,
                "rebuilding": offset in rebuilding,
            }
            for offset, event in self._waiting.items()
        ]

    def abandon(self) -> None:
        """The partition is no longer ours."""
        for _, rebuild in self._rebuilding.values():
            rebuild.abandon()

    def take(self, refusal: Callable[[int, ControlEvent], str | None]) -> CarryOut | Refuse | None:
        """The next that is to be carried out or refused; None when there is none now.

        `refusal` says why one can't be carried out, as `MaterializedPartition.refusal` does.
        """
        waited_for: set[Namespace] = set()
        for offset, event in self._waiting.items():
            if event.namespace in waited_for:
                continue
            try:
                found = self._look_at(offset, event, refusal)
            except Exception as error:  # noqa: BLE001 - it costs this decision, and the next one is looked at
                found = Refuse(offset=offset, event=event, reason=f"{type(error).__name__}: {error}")
                if self._rebuilding.get(event.namespace, (None, None))[0] == offset:
                    del self._rebuilding[event.namespace]
            if found is not None:
                del self._waiting[offset]
                return found
            waited_for.add(event.namespace)
        return None

    def _look_at(
        self, offset: int, event: ControlEvent, refusal: Callable[[int, ControlEvent], str | None]
    ) -> CarryOut | Refuse | None:
        """What is to be done about the oldest decision over a namespace; None while it waits."""
        begun, rebuild = self._rebuilding.get(event.namespace, (None, None))
        if begun == offset and rebuild is not None:
            found = self._rebuilt(offset, event, rebuild)
            if found is not None:
                del self._rebuilding[event.namespace]
            return found
        if (reason := refusal(offset, event)) is not None:
            return Refuse(offset=offset, event=event, reason=reason)
        if not isinstance(event.body, Pin):
            return CarryOut(offset=offset, event=event)
        if self._is_superseded(offset, event):
            return Refuse(offset=offset, event=event, reason=_SUPERSEDED)
        if (begins := self.rebuild(event.namespace, event.body)) is not None:
            self._rebuilding[event.namespace] = (offset, begins)
        return None

    def _is_superseded(self, offset: int, event: ControlEvent) -> bool:
        later = (one for at, one in self._waiting.items() if at > offset and one.namespace == event.namespace)
        return any(isinstance(one.body, Pin | Unpin) for one in later)

    def _rebuilt(self, offset: int, event: ControlEvent, rebuild: Rebuild) -> CarryOut | Refuse | None:
        if self._is_superseded(offset, event):
            rebuild.abandon()
            return Refuse(offset=offset, event=event, reason=_SUPERSEDED)
        match rebuild.result:
            case None:
                return None
            case NotRebuiltError() as error:
                return Refuse(offset=offset, event=event, reason=str(error))
            case records:
                return CarryOut(offset=offset, event=event, pinned=records)
