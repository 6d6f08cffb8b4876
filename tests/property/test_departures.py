"""Facts about entries of services that are gone, for every log: recoveries, audits and batches agree."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.recovery import recovery_offset
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from tests.property.test_fold import Publisher, changes, registries
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED


def settings_of(grace: int) -> ConversionSettings:
    """Microseconds; the log's clock is an event a microsecond."""
    return ConversionSettings(empty_grace_s=grace / 1e6)


def guard_of(window: int) -> GuardSettings:
    """One that holds much, within and over that many events; none for 0."""
    scope = {"max_share": 0.3, "min_size": 2, "window_s": window / 1e6, "deadline_s": window / 1e6}
    guarded = {"service": scope, "namespace": scope, "datacenter": scope}
    return GuardSettings.model_validate(guarded) if window else UNGUARDED


def written(first, rounds, settings: ConversionSettings, guard: GuardSettings) -> Publisher:
    """The log of a listener that lays a keyframe after each round of changes."""
    log = Publisher(guard)
    log.fold = Fold(settings, guard)
    log.lay(first)
    for between in rounds:
        for key, here in between:
            log.change(key, here)
        log.lay(log.registry())
    return log


def versions(fold: Fold, settings: ConversionSettings) -> dict[tuple[str, str], str]:
    """What a fresh view makes of a fold."""
    view = NamespaceView(PUBLIC, settings)
    update = view.update_all(fold.state, Occasion("test")) if PUBLIC in fold.state.changes else None
    return {} if update is None else {name: one.version for name, one in update.records.items() if one is not None}


rounds_of_changes = st.lists(changes, min_size=1, max_size=5)


@given(registries, rounds_of_changes, st.integers(1, 60), st.sampled_from([0, 0, 3, 15]))
def test_a_recovery_knows_the_entries_that_stay(first, rounds, grace, window) -> None:
    """From the keyframe where it may begin, whatever departed before and behind it."""
    settings, guard = settings_of(grace), guard_of(window)
    log = written(first, rounds, settings, guard)
    view = NamespaceView(PUBLIC, settings)
    update = view.update_all(log.fold.state, Occasion("test"))
    start = recovery_offset(log.fold.state, TOPIC, len(log.events))
    fold = Fold(settings, guard)
    for offset, event in enumerate(log.events[start:], start=start):
        fold.apply(TOPIC, offset, event)
    fold.state.adopt_claims(PUBLIC, update.manifest.claims if update else {})
    assert versions(fold, settings) == versions(log.fold, settings)


@given(registries, rounds_of_changes, st.integers(1, 60), st.sets(st.integers(0, 100)))
def test_entries_that_stay_do_not_depend_on_batches(first, rounds, grace, cuts) -> None:
    """A view that follows in batches, and one that is made anew at the end, have the same."""
    settings = settings_of(grace)
    log = written(first, rounds, settings, UNGUARDED)
    fold, view = Fold(settings, UNGUARDED), NamespaceView(PUBLIC, settings)
    for offset, event in enumerate(log.events):
        fold.apply(TOPIC, offset, event)
        changed = fold.state.changes.get(PUBLIC)
        if changed is not None and (offset in cuts or offset == len(log.events) - 1):
            dirty, changed.dirty = changed.dirty, Touched()
            if dirty and (update := view.update(fold.state, dirty, Occasion("test"))) is not None:
                view.published(update)
    assert view.versions == versions(fold, settings)
