"""EnvoyFilter: whether what is patched, what is matched and the patch go together. Pure.

The patches' values are Envoy's configuration, which is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, warning
from consumers.materializer.conversion.validation.selection import check_selector

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_LISTENERS = frozenset({"LISTENER", "FILTER_CHAIN", "NETWORK_FILTER", "HTTP_FILTER"})
_MATCHES = {
    **dict.fromkeys(_LISTENERS, "listener"),
    **dict.fromkeys(("ROUTE_CONFIGURATION", "VIRTUAL_HOST", "HTTP_ROUTE"), "route_configuration"),
    "CLUSTER": "cluster",
}
_MANAGER = "envoy.filters.network.http_connection_manager"
_LONGEST_VERSION = 1024


def check_envoy_filter(message: Any, resource: Resource, path: Path) -> Findings:
    """`networking.EnvoyFilter`."""
    if resource.namespace == resource.root:
        yield warning(("metadata", "namespace"), "the patches hold for every proxy of the mesh")
    if message.HasField("workload_selector"):
        yield from check_selector(message.workload_selector.labels, (*path, "workloadSelector", "labels"))
    for number, patch in enumerate(message.config_patches):
        place = (*path, "configPatches", number)
        is_waypoint = patch.match.context == message.WAYPOINT
        if is_waypoint != patch.match.HasField("waypoint"):
            yield Finding((*place, "match", "waypoint"), "goes with context WAYPOINT")
        if not is_waypoint:
            yield from _check_patch(message, patch, resource, place)


def _check_patch(message: Any, patch: Any, resource: Resource, path: Path) -> Findings:
    applies_to = message.ApplyTo.Name(patch.apply_to)
    if patch.apply_to == message.INVALID:
        yield Finding((*path, "applyTo"), "is required")
    if not patch.HasField("patch"):
        yield Finding((*path, "patch"), "is required")
    elif patch.patch.operation == patch.patch.INVALID:
        yield Finding((*path, "patch", "operation"), "is required")
    elif patch.patch.operation != patch.patch.REMOVE and not patch.patch.HasField("value"):
        yield Finding((*path, "patch", "value"), "is required, unless the operation is REMOVE")
    version = patch.match.proxy.proxy_version
    if len(version.encode()) > _LONGEST_VERSION:
        yield warning((*path, "match", "proxy", "proxyVersion"), "is too long and does nothing")
    elif version:
        yield from resource.patterns.check(version, (*path, "match", "proxy", "proxyVersion"))
    wanted, found = _MATCHES.get(applies_to), patch.match.WhichOneof("object_types")
    if wanted is not None and found not in {wanted, None}:
        yield Finding((*path, "match"), f"must match a {wanted.replace('_', ' ')}, since applyTo is {applies_to}")
    elif applies_to in _LISTENERS and patch.match.listener.filter_chain.HasField("filter"):
        place = (*path, "match", "listener", "filterChain", "filter")
        yield from _check_filter(applies_to, patch.match.listener.filter_chain.filter, place)


def _check_filter(applies_to: str, match: Any, path: Path) -> Findings:
    if applies_to in {"LISTENER", "FILTER_CHAIN"}:
        yield warning(path, f"does nothing with applyTo {applies_to}")
    if not match.name:
        yield Finding((*path, "name"), "is required")
    elif match.HasField("sub_filter"):
        if applies_to != "HTTP_FILTER":
            yield Finding((*path, "subFilter"), "goes with applyTo HTTP_FILTER only")
        elif match.name not in {_MANAGER, "envoy.http_connection_manager"}:
            yield Finding((*path, "name"), f"must be {_MANAGER} where there is a subFilter")
        elif not match.sub_filter.name:
            yield Finding((*path, "subFilter", "name"), "is required")
