"""The checks of every kind, and what holds for resources of all. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.authentication import (
    check_peer_authentication,
    check_request_authentication,
)
from consumers.materializer.conversion.validation.authorization import check_authorization_policy
from consumers.materializer.conversion.validation.destination_rule import check_destination_rule
from consumers.materializer.conversion.validation.envoy_filter import check_envoy_filter
from consumers.materializer.conversion.validation.findings import Finding
from consumers.materializer.conversion.validation.gateway import check_gateway
from consumers.materializer.conversion.validation.service_entry import check_service_entry
from consumers.materializer.conversion.validation.sidecar import check_sidecar
from consumers.materializer.conversion.validation.telemetry import (
    check_proxy_config,
    check_telemetry,
    check_wasm_plugin,
)
from consumers.materializer.conversion.validation.virtual_service import check_virtual_service
from consumers.materializer.conversion.validation.workload import check_workload_entry, check_workload_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

CHECKS: dict[str, Callable[[Any, Resource, Path], Findings]] = {
    "AuthorizationPolicy": check_authorization_policy,
    "DestinationRule": check_destination_rule,
    "EnvoyFilter": check_envoy_filter,
    "Gateway": check_gateway,
    "PeerAuthentication": check_peer_authentication,
    "ProxyConfig": check_proxy_config,
    "RequestAuthentication": check_request_authentication,
    "ServiceEntry": check_service_entry,
    "Sidecar": check_sidecar,
    "Telemetry": check_telemetry,
    "VirtualService": check_virtual_service,
    "WasmPlugin": check_wasm_plugin,
    "WorkloadEntry": check_workload_entry,
    "WorkloadGroup": check_workload_group,
}
"""By kind; each is given a message, what stands beside it, and the path of its body."""
_INTERNAL = frozenset(
    f"internal.istio.io/{name}" for name in ("webhook-always-reject", "parents", "parent-namespace")
)
_DRY_RUN = "istio.io/dry-run"
MOST_FINDINGS = 1000


def check_resource(kind: str, message: Any, resource: Resource) -> list[Finding]:
    """What is wrong with a resource, and what is unwise; at most so many that more would help nobody."""
    found = [
        Finding(("metadata", "annotations", name), "is Istio's own: it can't be set")
        for name in sorted(_INTERNAL & resource.annotations.keys())
    ]
    if _DRY_RUN in resource.annotations and kind != "AuthorizationPolicy":
        found.append(Finding(("metadata", "annotations", _DRY_RUN), "goes with AuthorizationPolicy only"))
    for finding in CHECKS[kind](message, resource, ("spec",)):
        found.append(finding)
        if len(found) >= MOST_FINDINGS:
            break
    return found
