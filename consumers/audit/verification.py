"""Folds a partition's log again and holds every manifest of its history against it. Pure.

One fold goes along the history: for each manifest, events are folded up to where the manifest says that its
materializer had got. Restarts, takeovers and batches of the materializer don't show, for they must not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from consumers.audit.verdict import Verdict
from consumers.materializer.claimed_names import MAX_CLAIMS
from consumers.materializer.conversion import REVISION, converter_name
from consumers.materializer.decisions import pin_of, stands, without_releases
from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.view import NamespaceView, Occasion
from schemas.control import Pin, Release
from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.control import Decision
    from schemas.events import Namespace, RegistryEvent
    from schemas.records import Manifest

_OCCASION = Occasion("audit")


class Finding(NamedTuple):
    """A manifest, and what the log says of it; `reason` where it does not agree."""

    manifest: Manifest
    verdict: Verdict
    reason: str = ""


@dataclass(slots=True)
class Foreknowledge:
    """What has to be known of a history before it is gone through: releases, and versions that pins go back to.

    `digests` are those of such versions, once they are verified.
    """

    releases: dict[int, Decision] = field(default_factory=dict)
    pinned: set[frozenset[tuple[str, int]]] = field(default_factory=set)
    digests: dict[frozenset[tuple[str, int]], str] = field(default_factory=dict)

    def learn(self, manifest: Manifest) -> None:
        """A manifest of the history, in any order."""
        for decision in manifest.decisions:
            match decision.event.body:
                case Release():
                    self.releases[decision.offset] = decision
                case Pin(version=version):
                    self.pinned.add(frozenset(version.items()))
                case _:
                    pass


@dataclass(slots=True)
class _Followed:
    """A namespace as the history has shown it so far."""

    view: NamespaceView
    decisions: tuple[Decision, ...] | None = None
    version: dict[str, int] | None = None
    digest: str = ""
    claims: dict[str, int] = field(default_factory=dict)
    unproven: set[str] = field(default_factory=set)
    """Resources that stand at an earlier content, from before what was read."""


class Verification:
    """Follows one partition; give it events and manifests as their records come.

    It converts as one revision of the conversion, and proves what that one made.
    """

    def __init__(
        self,
        conversion: ConversionSettings,
        guard: GuardSettings,
        foreknowledge: Foreknowledge,
        revision: str = REVISION,
    ) -> None:
        self.revision = revision
        self._conversion = conversion
        self._converter = converter_name(conversion, guard, revision=revision)
        self._fold = Fold(conversion, guard, revision)
        self._fold.decider.schedule(foreknowledge.releases.values())
        self._foreknowledge = foreknowledge
        self._followed: dict[Namespace, _Followed] = {}

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> None:
        """Folds in the next event of a topic."""
        self._fold.apply(topic, offset, event)

    def check(self, manifest: Manifest) -> Finding:
        """The finding on the next manifest; the events that it is made of are folded in, and no later ones."""
        name = manifest.namespace
        followed = self._followed.get(name)
        if followed is None:
            followed = self._followed[name] = _Followed(NamespaceView(name, self._conversion))
        finding = self._follow(manifest, followed)
        followed.version, followed.digest = manifest.version, manifest.digest
        version = frozenset(manifest.version.items())
        if version in self._foreknowledge.pinned and finding.verdict is Verdict.VERIFIED:
            self._foreknowledge.digests[version] = manifest.digest
        return finding

    def _follow(self, manifest: Manifest, followed: _Followed) -> Finding:
        if (fault := _order_fault(manifest, followed)) is not None:
            return Finding(manifest, Verdict.MISMATCH, fault)
        in_force = without_releases(manifest.decisions)
        if manifest.converter != self._converter and not stands(in_force):
            followed.decisions = None
            reason = f"made by another converter, or with other settings: {manifest.converter}"
            return Finding(manifest, Verdict.UNVERIFIABLE, reason)
        if stands(in_force):
            expected = self._standing(in_force, followed)
        else:
            expected = self._present(manifest, in_force, followed)
        followed.decisions = in_force
        if expected is None:
            return Finding(manifest, Verdict.UNVERIFIABLE, "what it is made of begins before what was read")
        if expected != manifest.digest and len(manifest.claims) >= MAX_CLAIMS:
            return Finding(manifest, Verdict.UNVERIFIABLE, "more services want one name than it tells of")
        unknown = sorted(followed.unproven) or (manifest.oversized if expected != manifest.digest else ())
        if unknown:
            return Finding(manifest, Verdict.UNVERIFIABLE, f"stands at earlier content: {unknown[0]}")
        if expected != manifest.digest and (followed.view.failed or followed.view.faulted):
            fault = followed.view.failure or next(iter(followed.view.faulted.values()))
            return Finding(manifest, Verdict.UNVERIFIABLE, f"this audit met a fault of shiplog: {fault}")
        if expected != manifest.digest:
            return Finding(manifest, Verdict.MISMATCH, f"the log gives {expected}")
        return Finding(manifest, Verdict.VERIFIED)

    def _standing(self, in_force: tuple[Decision, ...], followed: _Followed) -> str | None:
        """What a frozen or pinned namespace must have: what it had, or what it is pinned to."""
        pin = pin_of(in_force)
        if pin is not None and pin != pin_of(followed.decisions or ()):
            return self._foreknowledge.digests.get(frozenset(pin.version.items()))
        return followed.digest if followed.decisions is not None else None

    def _present(self, manifest: Manifest, in_force: tuple[Decision, ...], followed: _Followed) -> str | None:
        """What the fold gives for a namespace now, with what the manifest withholds as it stood."""
        state, name = self._fold.state, manifest.namespace
        if not state.is_complete(name) and name not in state.changes:
            return None
        state.decisions[name] = in_force
        changes = state.changes[name]
        if manifest.claims != followed.claims:
            # A fold that began at an older keyframe knows better since when they are there, and the history not.
            changes.dirty.services |= state.adopt_claims(name, manifest.claims)
            followed.claims = manifest.claims
        if followed.decisions == in_force:
            update = followed.view.update(state, changes.dirty, _OCCASION)
        else:
            update = followed.view.update_all(state, _OCCASION)
        changes.dirty = Touched()
        if update is not None:
            followed.view.published(update)
        # What was unproven stays so for as long as it is withheld.
        followed.unproven &= manifest.withheld.keys()
        followed.unproven.update(followed.view.adopt_withheld(manifest.withheld))
        return format_snapshot_digest(followed.view.digest)


def _order_fault(manifest: Manifest, followed: _Followed) -> str | None:
    """What is wrong with a version, seen from the one before."""
    former = followed.version
    if former is None:
        return None
    if manifest.version == former and manifest.digest != followed.digest:
        return f"the same version stood for {followed.digest} before"
    back = [topic for topic, offset in former.items() if manifest.version.get(topic, -1) < offset]
    return f"the version goes back in {', '.join(back)}" if back else None
