"""DestinationRule: its host and subsets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted
from consumers.materializer.conversion.validation.names import check_labels, checked, is_label, wildcard_fault
from consumers.materializer.conversion.validation.selection import check_export, check_selector
from consumers.materializer.conversion.validation.traffic_policy import check_traffic_policy

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource


def check_destination_rule(message: Any, resource: Resource, path: Path) -> Findings:
    """`networking.DestinationRule`."""
    yield from checked(wildcard_fault(message.host), (*path, "host"))
    if message.HasField("traffic_policy"):
        yield from check_traffic_policy(message.traffic_policy, resource, (*path, "trafficPolicy"))
    names = set()
    for number, subset in enumerate(message.subsets):
        place = (*path, "subsets", number)
        if subset.name in names:
            yield Finding((*place, "name"), f"{quoted(subset.name)} stands in an earlier subset too")
        names.add(subset.name)
        if not is_label(subset.name):
            yield Finding((*place, "name"), f"{quoted(subset.name)} is no name of a subset")
        yield from check_labels(subset.labels, (*place, "labels"))
        if subset.HasField("traffic_policy"):
            yield from check_traffic_policy(subset.traffic_policy, resource, (*place, "trafficPolicy"))
    yield from check_export(message.export_to, resource.namespace, (*path, "exportTo"))
    if message.HasField("workload_selector"):
        yield from check_selector(
            message.workload_selector.match_labels, (*path, "workloadSelector", "matchLabels")
        )
        if any(one not in {".", resource.namespace} for one in message.export_to):
            yield Finding((*path, "exportTo"), "with workloadSelector it can only be the rule's own namespace")
