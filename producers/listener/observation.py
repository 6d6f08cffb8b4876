"""What is known of a service from what Nacos pushed and what its catalog says. Pure.

Pushes come at once but hide disabled instances, and while the service is protected call all of them healthy.
The catalog shows the truth, late. Each corrects the other: a push decides which enabled instances there are,
the catalog what is hidden, and who is healthy while a push won't say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producers.nacos.service_info import ServiceInfo
    from schemas.events import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A service's instances: those that subscribers are told of, and the disabled ones; each in order of keys."""

    visible: tuple[Instance, ...]
    hidden: tuple[Instance, ...] = ()
    protect_threshold: float = 0.0

    @property
    def instances(self) -> tuple[Instance, ...]:
        """All of them, in the order of their keys."""
        if not self.hidden:
            return self.visible
        return tuple(sorted((*self.visible, *self.hidden), key=lambda instance: instance.key))


NOTHING = Observation(visible=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the catalog made of an observation; `ask_again` when it disagrees about who is enabled and there."""

    observation: Observation
    ask_again: bool


def pushed(former: Observation, info: ServiceInfo) -> Observation:
    """What is known after a push or a subscription's answer.

    The health that is known stays only if it and the known threshold make the service protected, as the push
    says: so Pilots are given what Nacos gives its own clients, whatever we do not know yet.
    """
    visible = info.hosts.instances
    threshold = former.protect_threshold
    if info.protected:
        known = {instance.key: instance.healthy for instance in former.visible}
        true = tuple(one._replace(healthy=known.get(one.key, one.healthy)) for one in visible)
        visible = true if _is_protected(true, threshold) else visible
    elif _is_protected(visible, threshold):
        threshold = 0.0
    present = {instance.key for instance in visible} if former.hidden else ()
    return Observation(
        visible=visible,
        hidden=tuple(instance for instance in former.hidden if instance.key not in present),
        protect_threshold=threshold,
    )


def is_doubtful(former: Observation, after: Observation, info: ServiceInfo) -> bool:
    """Whether a push may hide something: an instance is missing, or health or the threshold is not told."""
    return (
        info.protected
        or after.protect_threshold != former.protect_threshold
        or len(_missing(former.visible, info.hosts.instances)) > 0
    )


def _is_protected(visible: tuple[Instance, ...], threshold: float) -> bool:
    """Nacos's rule: with so few healthy ones, all are said to be."""
    healthy = sum(instance.healthy for instance in visible)
    return bool(visible) and healthy / len(visible) <= threshold


def without_removals(former: Observation, after: Observation) -> tuple[Observation, bool]:
    """What may be believed while removals may not: `after`, and what it lacks; whether it lacked any.

    For the time after a reconnect, when a server may still be loading what its peers know.
    """
    kept = _missing(former.visible, after.instances)
    if not kept:
        return after, False
    visible = tuple(sorted((*after.visible, *kept), key=lambda instance: instance.key))
    return replace(after, visible=visible), True


def lacks(former: Observation, instances: tuple[Instance, ...]) -> bool:
    """Whether instances that are visible to us are missing."""
    return len(_missing(former.visible, instances)) > 0


def corrected(former: Observation, truth: tuple[Instance, ...], protect_threshold: float) -> Correction:
    """What is known after the catalog was read; it removes no enabled instance and adds none.

    Those may be on their way in a push, or the catalog may be another node's: the subscription is asked.
    """
    true = {instance.key: instance for instance in truth}
    visible = tuple(true.get(instance.key, instance) for instance in former.visible)
    enabled = {key for key, instance in true.items() if instance.enabled}
    ask_again = enabled != {instance.key for instance in visible if instance.enabled} or any(
        instance.key not in true for instance in former.visible
    )
    hidden = tuple(instance for instance in truth if not instance.enabled)
    return Correction(
        observation=Observation(
            visible=tuple(instance for instance in visible if instance.enabled),
            hidden=hidden,
            protect_threshold=protect_threshold,
        ),
        ask_again=ask_again,
    )


def stated(truth: tuple[Instance, ...], protect_threshold: float) -> Observation:
    """What is known from the catalog alone."""
    return Observation(
        visible=tuple(instance for instance in truth if instance.enabled),
        hidden=tuple(instance for instance in truth if not instance.enabled),
        protect_threshold=protect_threshold,
    )


def agrees(known: Observation, swept: tuple[Instance, ...], protect_threshold: float) -> bool:
    """Whether a page of the catalog tells nothing new; pages don't tell who is ephemeral."""
    if known.protect_threshold != protect_threshold:
        return False
    instances = known.instances
    return len(instances) == len(swept) and all(
        ours is theirs or ours == theirs._replace(ephemeral=ours.ephemeral)
        for ours, theirs in zip(instances, swept, strict=True)
    )


def _missing(former: tuple[Instance, ...], after: tuple[Instance, ...]) -> tuple[Instance, ...]:
    # Both are in the order of their keys, and mostly the same ones are there.
    if len(former) == len(after) and all(
        a.ip == b.ip and a.port == b.port and a.cluster == b.cluster for a, b in zip(former, after, strict=True)
    ):
        return ()
    present = {instance.key for instance in after}
    return tuple(instance for instance in former if instance.key not in present)
