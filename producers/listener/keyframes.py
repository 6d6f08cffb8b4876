"""The keyframes of one tenure: which are due, which one is being laid, what each stated and kept. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from producers.listener.namespace_view import Kept
from schemas.events import ConfigState, ServicePart, ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.listener.namespace_view import NamespaceView
    from schemas.events import ConfigKey, Namespace, RegistryBody, ServiceKey


@dataclass(slots=True, kw_only=True)
class Keyframe:
    """A keyframe that is due or being laid: what remains, and the states written since it started.

    The latter include what appeared meanwhile, because readers count every state in between. `first` is the
    sequence of its first event.
    """

    reason: str
    remaining: Iterator[ServiceKey | ConfigKey]
    first: int | None = None
    services: int = 0
    config_items: int = 0

    def count(self, body: RegistryBody) -> None:
        """An event was written."""
        if self.first is not None:
            is_state = isinstance(body, ServiceState) or (
                isinstance(body, ServicePart) and body.part == body.parts - 1
            )
            self.services += is_state
            self.config_items += isinstance(body, ConfigState)


class Laid(NamedTuple):
    """A whole keyframe: the sequences of its first and last event, and what it kept."""

    first: int
    last: int
    kept: Kept


@dataclass(slots=True)
class Keyframes:
    """Lays one keyframe at a time, so that an event that is lost spoils no more than one."""

    _due: dict[Namespace, Keyframe] = field(default_factory=dict)
    _laid: dict[Namespace, Laid] = field(default_factory=dict)
    _laying: Namespace | None = None

    def __bool__(self) -> bool:
        """Whether any is due or being laid."""
        return bool(self._due)

    @property
    def laid(self) -> list[Namespace]:
        """The namespaces that have one."""
        return list(self._laid)

    def of(self, namespace: Namespace) -> Keyframe | None:
        """The namespace's keyframe that is due or being laid."""
        return self._due.get(namespace)

    def is_missing(self, namespace: Namespace) -> bool:
        """Whether the session has none of it, and none is due."""
        return namespace not in self._laid and namespace not in self._due

    def kept(self, namespace: Namespace) -> Kept:
        """What the namespace's last keyframe kept."""
        laid = self._laid.get(namespace)
        return Kept() if laid is None else laid.kept

    def begin(self, view: NamespaceView, reason: str) -> None:
        """A keyframe of everything in the view is due; one that is being laid begins anew."""
        everything: list[ServiceKey | ConfigKey] = [*view.observed, *view.configs]
        self._due[view.namespace] = Keyframe(reason=reason, remaining=iter(everything))

    def is_first_due(self, namespace: Namespace) -> bool:
        """Whether the session's first keyframe of it is still to be completed."""
        return namespace in self._due and namespace not in self._laid

    def is_turn_of(self, namespace: Namespace) -> bool:
        """Whether its keyframe may be laid now: it is due, and no other one is being laid."""
        return namespace in self._due and self._laying in {None, namespace}

    def take_turn(self, namespace: Namespace) -> Keyframe:
        """The namespace's keyframe, whose turn it is."""
        self._laying = namespace
        return self._due[namespace]

    def complete(self, namespace: Namespace, last: int, kept: Kept) -> Namespace | None:
        """The keyframe is whole; the namespace whose turn is next."""
        frame = self._due.pop(namespace)
        self._laid[namespace] = Laid(last if frame.first is None else frame.first, last, kept)
        return self._next()

    def forget(self, namespace: Namespace) -> Namespace | None:
        """The namespace is gone; the one whose turn is next."""
        self._due.pop(namespace, None)
        self._laid.pop(namespace, None)
        return self._next() if self._laying == namespace else None

    def spoiled_by(self, sequence: int) -> list[Namespace]:
        """The namespaces whose keyframe readers can't complete without the event of this sequence."""
        spoiled = [name for name, laid in self._laid.items() if laid.first <= sequence <= laid.last]
        frame = None if self._laying is None else self._due.get(self._laying)
        if frame is not None and frame.first is not None and frame.first <= sequence and self._laying is not None:
            spoiled.append(self._laying)
        return spoiled

    def _next(self) -> Namespace | None:
        self._laying = None
        return next(iter(self._due), None)
