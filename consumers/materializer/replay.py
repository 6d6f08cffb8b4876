"""A snapshot once more: folds the events that a manifest names, and compares. Pure.

A manifest says where its fold has to begin, how far it had got, which decisions bore on it, which resources stood
at an earlier content, and since when those are there who want one name: that and the log are all it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.materializer.conversion import REVISION, revision_of
from consumers.materializer.decisions import releases_of, without_releases
from consumers.materializer.fold import Fold
from consumers.materializer.manifests import resource_id
from consumers.materializer.view import NamespaceView, Occasion
from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from consumers.materializer.fold_state import PartitionState
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import RegistryEvent
    from schemas.records import Manifest, ResourceRecord


class Replay:
    """Arrives at a manifest's content again; the manifest is of a namespace that does not stand.

    Give it the partition's events from `manifest.recover_from` up to `manifest.folded_to`, each topic in order, of
    all namespaces in the partition: a guard counts them together. It converts as the revision of the conversion
    that the manifest names, where that is known.
    """

    def __init__(self, conversion: ConversionSettings, guard: GuardSettings, manifest: Manifest) -> None:
        self._manifest = manifest
        revision = revision_of(manifest.converter, conversion, guard) or REVISION
        self._fold = Fold(conversion, guard, revision)
        self._view = NamespaceView(manifest.namespace, conversion)
        self._fold.decider.schedule(releases_of(manifest.decisions))
        self._fold.state.decisions[manifest.namespace] = without_releases(manifest.decisions)

    @property
    def state(self) -> PartitionState:
        """What the events amount to."""
        return self._fold.state

    @property
    def view(self) -> NamespaceView:
        """The namespace's resources, once `snapshot` made them."""
        return self._view

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> None:
        """Folds in an event; those outside of what the manifest names are passed over."""
        first = self._manifest.recover_from.get(topic, 0)
        if first <= offset <= self._manifest.folded_to.get(topic, -1):
            self._fold.apply(topic, offset, event)

    def snapshot(self) -> tuple[str, dict[tuple[str, str], ResourceRecord]]:
        """The digest and the records, once all events are folded in; equal digests prove equal content.

        The records are without the resources that the manifest withholds: the digest counts them as it names them.
        """
        view, withheld, state = self._view, self._manifest.withheld, self._fold.state
        state.adopt_claims(self._manifest.namespace, self._manifest.claims)
        update = view.update_all(state, Occasion("replay", converter=self._manifest.converter))
        if update is None:
            return "", {}
        view.published(update)
        view.adopt_withheld(withheld)
        left_out = set(map(resource_id, withheld))
        return format_snapshot_digest(view.digest), {
            name: record for name, record in update.records.items() if record is not None and name not in left_out
        }
