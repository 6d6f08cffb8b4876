"""What routes of every protocol have: destinations, gateways, and rules that come too late. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.headers import check_operations
from consumers.materializer.conversion.validation.names import checked, domain_fault, is_label, wildcard_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.materializer.conversion.validation.findings import Findings, Path


def check_destination(destination: Any, path: Path) -> Findings:
    """`networking.Destination`."""
    if destination.host == "*":
        yield Finding((*path, "host"), "* can't be a destination")
    else:
        yield from checked(wildcard_fault(destination.host), (*path, "host"))
    if destination.subset and not is_label(destination.subset):
        yield Finding((*path, "subset"), f"{quoted(destination.subset)} is no name of a subset")
    if destination.HasField("port") and not 1 <= destination.port.number <= 65535:
        yield Finding((*path, "port"), f"{destination.port.number} is not 1 to 65535")


def check_destinations(routes: Sequence[Any], path: Path) -> Findings:
    """Weighted destinations, of HTTP or of another protocol."""
    for number, one in enumerate(routes):
        place = (*path, number)
        if one.HasField("destination"):
            yield from check_destination(one.destination, (*place, "destination"))
        if "headers" in one.DESCRIPTOR.fields_by_name and one.HasField("headers"):
            yield from check_operations(one.headers, (*place, "headers"))
    if len(routes) > 1 and not any(one.weight for one in routes):
        yield Finding(path, "of several destinations one must have a weight")


def check_gateways(gateways: Sequence[str], path: Path) -> Findings:
    """Names of gateways: `namespace/name`, `name`, or `mesh`."""
    for number, name in enumerate(gateways):
        namespace, slash, rest = name.partition("/")
        if not slash:
            yield from checked(domain_fault(name), (*path, number))
            if "." in name:
                yield warning((*path, number), f"{quoted(name)} is an old way to write namespace/name")
        elif not is_label(namespace) or not is_label(rest):
            yield Finding((*path, number), f"{quoted(name)} is not of the form namespace/name")


def unused_rules(routes: Sequence[Any], path: Path) -> Findings:
    """Warns of rules that stand behind one that takes everything."""
    for number, route in enumerate(routes[:-1]):
        if not route.match:
            yield warning((*path, number + 1), "is never used: the rule before it matches everything")
            return
