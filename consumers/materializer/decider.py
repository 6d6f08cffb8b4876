"""Carries operators' decisions out on a partition's state, between two events. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.materializer.decisions import held_place, in_force
from consumers.materializer.fold_state import Touched
from schemas.control import ControlEvent, Decision, ExcludeDatacenter, IncludeDatacenter, Release
from schemas.topics import CONTROL_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.fold_state import PartitionState


class Decider:
    """New decisions are carried out where they arrive, releases of earlier folds where they were then.

    `scheduled` are those releases that are still to come.
    """

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self.scheduled: list[Decision] = []

    def decide(self, offset: int, event: ControlEvent) -> None:
        """Carries out the decision that stands at that offset of the control topic."""
        state, namespace = self._state, event.namespace
        decision = Decision(event, offset, dict(state.positions))
        state.decisions[namespace] = in_force(state.decisions.get(namespace, ()), decision)
        touched = Touched()
        match event.body:
            case Release():
                self._release(decision, event.body)
            case ExcludeDatacenter(datacenter=datacenter) | IncludeDatacenter(datacenter=datacenter):
                if (there := state.datacenters.get(datacenter)) is not None:
                    touched.services |= there.guard.held_services(namespace)
                    touched.services |= there.departures.of(namespace).keys()
                    if (here := there.namespaces.get(namespace)) is not None:
                        touched.services |= here.services.keys()
                        touched.resources |= here.claims.keys()
            case _:
                pass
        state.touch(namespace, CONTROL_EVENTS, offset, event.issued_at, touched)

    def schedule(self, releases: Iterable[Decision]) -> None:
        """Releases that an earlier fold carried out."""
        self.scheduled = sorted(releases, key=lambda decision: decision.offset)

    def carry_out_scheduled(self, topic: str, offset: int) -> None:
        """Carries out those that came right after the event at that offset, whatever became of the event."""
        for decision in list(self.scheduled):
            body = decision.event.body
            if not isinstance(body, Release):
                continue
            datacenter = self._state.datacenters.get(body.datacenter)
            if datacenter is not None and datacenter.topic == topic and decision.position.get(topic) == offset:
                self.scheduled.remove(decision)
                self._release(decision, body)

    def _release(self, decision: Decision, release: Release) -> None:
        self._state.releases.append(decision)
        there = self._state.datacenters.get(release.datacenter)
        if there is not None:
            where = held_place(release, decision.event.namespace)
            places = there.guard.release(where) | there.heads.release(where)
            self._state.note_guarded(there, places, CONTROL_EVENTS, decision.offset, decision.event.issued_at)
