"""What an observation changes in what was last published, service by service. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.digests import SERVICE_DIGEST_MODULUS, instance_digest
from schemas.events import Instance, InstanceKey, ServiceDelta, ServiceKey, ServiceState

if TYPE_CHECKING:
    from producers.listener.observation import Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedService:
    """A service as the log has it: its instances, the sum of their hashes, its protect threshold."""

    instances: dict[InstanceKey, Instance]
    digest: int
    protect_threshold: float


def state(key: ServiceKey, observation: Observation) -> tuple[ServiceState, StatedService]:
    """The event that states all instances, and what stands in the log after it."""
    by_key = {instance.key: instance for instance in observation.instances}
    digest = sum(map(instance_digest, by_key.values())) % SERVICE_DIGEST_MODULUS
    threshold = observation.protect_threshold
    event = ServiceState(key=key, instances=tuple(by_key.values()), protect_threshold=threshold)
    return event, StatedService(instances=by_key, digest=digest, protect_threshold=threshold)


def diff(
    key: ServiceKey, stated: StatedService, observation: Observation
) -> tuple[ServiceDelta | ServiceState | None, StatedService]:
    """The event from what is stated to what was observed, and what stands after it; None when equal.

    Hashes only what changed, so a change in a service of 20,000 instances costs one comparison of each.
    A delta can't tell of a threshold: when that changed, all is stated.
    """
    if observation.protect_threshold != stated.protect_threshold:
        return state(key, observation)
    before = stated.instances
    after = {instance.key: instance for instance in observation.instances}
    upserts = [
        instance
        for k, instance in after.items()
        if (former := before.get(k)) is not instance and former != instance
    ]
    removals = [k for k in before if k not in after]
    if not upserts and not removals:
        return None, stated
    digest = stated.digest
    for instance in upserts:
        former = before.get(instance.key)
        digest += instance_digest(instance) - (0 if former is None else instance_digest(former))
    for k in removals:
        digest -= instance_digest(before[k])
    digest %= SERVICE_DIGEST_MODULUS
    delta = ServiceDelta(
        key=key, upserts=tuple(upserts), removals=tuple(removals), count=len(after), digest=digest
    )
    return delta, StatedService(instances=after, digest=digest, protect_threshold=stated.protect_threshold)
