"""Load balancing by locality: to where traffic is distributed, and where it goes when a region fails. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.validation.findings import Findings, Path

_TOPOLOGY = frozenset(
    {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"}
)


def check_locality_setting(setting: Any, path: Path, *, has_outliers: bool) -> Findings:
    """`networking.LocalityLoadBalancerSetting`."""
    if setting.distribute and setting.failover:
        yield Finding((*path, "failover"), "can't stand beside distribute")
    if setting.failover and not _TOPOLOGY.isdisjoint(setting.failover_priority):
        yield Finding((*path, "failoverPriority"), "can't name a topology label beside failover")
    for number, one in enumerate(setting.distribute):
        place = (*path, "distribute", number, "to")
        for locality, weight in sorted(one.to.items()):
            if not 1 <= weight <= 100:
                yield Finding((*place, locality), f"{weight} is not 1 to 100")
        if (total := sum(one.to.values())) != 100:
            yield Finding(place, f"the weights amount to {total}, not 100")
        yield from _check_localities(sorted(one.to), place)  # wildcards come first
    yield from _check_localities((getattr(one, "from") for one in setting.distribute), (*path, "distribute"))
    yield from _check_failover(setting, path, has_outliers=has_outliers)


def check_zone_setting(setting: Any, path: Path, *, has_outliers: bool) -> Findings:
    """`networking.ZoneAwareLoadBalancerSetting`."""
    if not _TOPOLOGY.isdisjoint(setting.failover_priority):
        yield Finding((*path, "failoverPriority"), "can't name a topology label, by which it is balanced anyway")
    yield from _check_failover(setting, path, has_outliers=has_outliers)


def _check_failover(setting: Any, path: Path, *, has_outliers: bool) -> Findings:
    if (setting.failover or setting.failover_priority) and not has_outliers:
        yield warning(path, "failover does nothing without outlierDetection")
    for number, one in enumerate(setting.failover):
        place, origin, target = (*path, "failover", number), getattr(one, "from"), one.to
        if origin == target:
            yield Finding(place, "from and to are the same region")
        if any(mark in region for mark in "/*" for region in (origin, target)):
            yield Finding(place, "from and to must be regions, without / and *")


def _check_localities(localities: Iterable[str], path: Path) -> Findings:
    """Localities `region/zone/subzone` that must not overlap; `*` stands at an end only."""
    taken: set[str] = set()
    parents: set[str] = set()
    for locality in localities:
        parts = locality.split("/", 2)
        if "*" in locality[:-1]:
            yield Finding(path, f"{quoted(locality)} has a * that is not at its end")
        if not all(parts):
            yield Finding(path, f"{quoted(locality)} has an empty part")
            continue
        ways = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        covering = {"*", *ways, *(f"{way}/*" for way in ways[:-1])}
        if ways[-1] in parents or not taken.isdisjoint(covering):
            yield Finding(path, f"{quoted(locality)} overlaps with an earlier one")
        taken.add(ways[-1])
        parents.update(ways[:-1])
