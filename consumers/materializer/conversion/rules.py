"""What `conversion.rules` say of one service, and of its instances. Pure.

Rules are read first to last; of what several of them set the last one counts, labels are added up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.rule_settings import OF_INSTANCES, RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.rule_settings import Rule
    from schemas.events import Datacenter, Namespace, ServiceKey

_LABELS = "labels"


class Numbered(NamedTuple):
    """A rule and its place in the list, from 1, as operators see it."""

    number: int
    rule: Rule


@dataclass(frozen=True, slots=True, eq=False)
class ServiceRules:
    """The rules that match a service; `of_service` is what they set for all of it, `of_instances` for some.

    Compared by identity: one is made for each service.
    """

    matching: tuple[Numbered, ...]
    of_service: RuleSet
    of_instances: tuple[Numbered, ...]
    _known: dict[tuple[object, ...], RuleSet] = field(default_factory=dict)

    def of_instance(self, datacenter: Datacenter, metadata: Mapping[str, str]) -> RuleSet:
        """What they set for an instance, that of its service included."""
        return merged(one.rule.set for one in self.matching_instance(datacenter, metadata))

    def matching_instance(self, datacenter: Datacenter, metadata: Mapping[str, str]) -> list[Numbered]:
        """The rules that match an instance, and those that match its whole service."""
        return [one for one in self.matching if _matches_instance(one.rule, datacenter, metadata)]

    @property
    def touches_instances(self) -> bool:
        """Whether an instance may be converted otherwise than without rules."""
        return any(not OF_INSTANCES.isdisjoint(one.rule.set.model_fields_set) for one in self.matching)


def rules_of(rules: Iterable[Rule], namespace: Namespace, key: ServiceKey) -> ServiceRules | None:
    """The rules of a service; None where none matches, which is nearly always."""
    matching = [
        Numbered(number, one) for number, one in enumerate(rules, start=1) if _matches(one, namespace, key)
    ]
    if not matching:
        return None
    return ServiceRules(
        matching=tuple(matching),
        of_service=merged(one.rule.set for one in matching if not one.rule.match.is_of_instances),
        of_instances=tuple(one for one in matching if one.rule.match.is_of_instances),
    )


def merged(sets: Iterable[RuleSet]) -> RuleSet:
    """What they set together."""
    values: dict[str, Any] = {}
    for one in sets:
        for name in one.model_fields_set:
            value = getattr(one, name)
            values[name] = {**values.get(name, {}), **value} if name == _LABELS else value
    return RuleSet.model_construct(_fields_set=set(values), **values)


def _matches(rule: Rule, namespace: Namespace, key: ServiceKey) -> bool:
    match = rule.match
    return (
        fnmatchcase(key.service, match.service)
        and fnmatchcase(key.group, match.group)
        and fnmatchcase(namespace, match.namespace)
    )


def _matches_instance(rule: Rule, datacenter: Datacenter, metadata: Mapping[str, str]) -> bool:
    match = rule.match
    return fnmatchcase(datacenter, match.datacenter) and all(
        key in metadata and fnmatchcase(metadata[key], pattern) for key, pattern in match.metadata.items()
    )
