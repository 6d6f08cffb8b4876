"""Holds a history against the events that it was made of, wherever both are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from consumers.audit.verdict import Verdict
from consumers.audit.verification import Finding, Foreknowledge, Verification
from consumers.materializer.conversion import REVISION, revision_of
from consumers.materializer.decisions import stands

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import RegistryEvent
    from schemas.records import Manifest

    Positioned = tuple[str, int, RegistryEvent]
    """An event with its topic and offset."""


class Source(Protocol):
    """A partition's history and events."""

    def manifests(self) -> Iterator[Manifest]:
        """The manifests to be checked, oldest first; read twice."""

    def events(self, topic: str, first: int) -> Iterator[Positioned]:
        """The events of a topic from that offset on."""

    def earliest(self, topic: str) -> int:
        """The first offset of a topic that is there."""


def verify(source: Source, conversion: ConversionSettings, guard: GuardSettings) -> Iterator[Finding]:
    """A finding for every manifest; memory is that of one fold, however long the history."""
    foreknowledge = Foreknowledge()
    for manifest in source.manifests():
        foreknowledge.learn(manifest)
    verification: Verification | None = None
    topics: dict[str, _Following] = {}
    for manifest in source.manifests():
        # A namespace that stands keeps the converter of what it stands at, and nothing of it is converted.
        revision = None
        if not stands(manifest.decisions):
            revision = revision_of(manifest.converter, conversion, guard)
        if verification is not None and revision not in {None, verification.revision}:
            verification, topics = None, {}  # from here on another revision converted
        # A topic may join later, with a beginning that the log no longer holds.
        is_new = verification is None or manifest.folded_to.keys() - topics.keys()
        if is_new and (missing := _missing(source, manifest, topics)) is not None:
            verification, topics = None, {}
            yield Finding(manifest, Verdict.UNVERIFIABLE, missing)
            continue
        if verification is None:
            verification = Verification(conversion, guard, foreknowledge, revision or REVISION)
        for topic, last in manifest.folded_to.items():
            if topic not in topics:
                topics[topic] = _Following(source.events(topic, manifest.recover_from.get(topic, 0)))
            topics[topic].fold_into(verification, last)
        yield verification.check(manifest)


def _missing(source: Source, manifest: Manifest, followed: Container[str]) -> str | None:
    """Why a fold can't begin with this manifest, or go on to it: in topics that are not followed yet."""
    if not manifest.folded_to:
        return "it does not say where its fold begins: it is of an older shiplog"
    for topic, offset in manifest.recover_from.items():
        if topic in followed:
            continue
        earliest = source.earliest(topic)
        if offset < earliest:
            return f"it needs {topic} from offset {offset}, and the log begins at {earliest}"
    return None


class _Following:
    """A topic's events, folded in piece by piece."""

    def __init__(self, events: Iterator[Positioned]) -> None:
        self._events = events
        self._ahead: Positioned | None = None

    def fold_into(self, verification: Verification, last: int) -> None:
        """Folds in what stands up to that offset."""
        if self._ahead is not None:
            if self._ahead[1] > last:
                return
            verification.apply(*self._ahead)
            self._ahead = None
        apply = verification.apply
        for found in self._events:
            topic, offset, event = found
            if offset > last:
                self._ahead = found
                break
            apply(topic, offset, event)
