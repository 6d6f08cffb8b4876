"""A session: one listener's tenure over one datacenter and partition, and the order of its events. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import Datacenter, Namespace, RegistryBody, RegistryEvent, SessionId


@dataclass(slots=True, kw_only=True)
class Session:
    """Numbers the events of a tenure: `event` builds the next one, `taken` says that the log will have it.

    An event that was not taken leaves no hole: the next one carries its number.
    """

    datacenter: Datacenter
    partition: int
    id: SessionId
    epoch: int
    sequence: int = 0

    def event(self, namespace: Namespace, body: RegistryBody, observed_at: int) -> RegistryEvent:
        """The next event of the session; `observed_at` in microseconds (UTC)."""
        return RegistryEvent(
            datacenter=self.datacenter,
            namespace=namespace,
            session=self.id,
            epoch=self.epoch,
            sequence=self.sequence,
            observed_at=observed_at,
            body=body,
        )

    def taken(self) -> None:
        """The event last built is on its way to the log."""
        self.sequence += 1


def keyframe_due(*, deltas: int, instances: int, age_s: float, min_events: int, max_age_s: float) -> bool:
    """Whether a partition's namespaces need new keyframes.

    So recovery and replay never read more than a few times the size of the state.
    """
    return deltas >= max(min_events, 2 * instances) or age_s >= max_age_s
