"""The kinds of Istio's configuration that a config item may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.protobuf.istio_extensions.wasm_pb2 import WasmPlugin
from schemas.protobuf.istio_networking.destination_rule_pb2 import DestinationRule
from schemas.protobuf.istio_networking.envoy_filter_pb2 import EnvoyFilter
from schemas.protobuf.istio_networking.gateway_pb2 import Gateway
from schemas.protobuf.istio_networking.proxy_config_pb2 import ProxyConfig
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.protobuf.istio_networking.sidecar_pb2 import Sidecar
from schemas.protobuf.istio_networking.virtual_service_pb2 import VirtualService
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry
from schemas.protobuf.istio_networking.workload_group_pb2 import WorkloadGroup
from schemas.protobuf.istio_security.authorization_policy_pb2 import AuthorizationPolicy
from schemas.protobuf.istio_security.peer_authentication_pb2 import PeerAuthentication
from schemas.protobuf.istio_security.request_authentication_pb2 import RequestAuthentication
from schemas.protobuf.istio_telemetry.telemetry_pb2 import Telemetry

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message


class Kind(NamedTuple):
    """A kind: its collection, its message, and the API versions under which it may stand."""

    collection: str
    message: type[Message]
    group: str
    versions: tuple[str, ...]

    @property
    def descriptor(self) -> Descriptor:
        """The fields that its message has."""
        return self.message.DESCRIPTOR  # type: ignore[return-value]  # the same interface, written in C

    @property
    def type_url(self) -> str:
        """How a body names its type."""
        return f"type.googleapis.com/{self.message.DESCRIPTOR.full_name}"


_NETWORKING = "networking.istio.io"
_SECURITY = "security.istio.io"
VERSIONS_OF_1 = {_NETWORKING: ("v1alpha3", "v1beta1", "v1"), _SECURITY: ("v1beta1", "v1")}
"""The API versions that the first revision of the conversion took, by group."""


def _networking(
    message: type[Message], plural: str, versions: tuple[str, ...] = VERSIONS_OF_1[_NETWORKING]
) -> Kind:
    return Kind(f"istio/networking/v1alpha3/{plural}", message, _NETWORKING, versions)


def _security(message: type[Message], plural: str) -> Kind:
    return Kind(f"istio/security/v1beta1/{plural}", message, _SECURITY, VERSIONS_OF_1[_SECURITY])


_NEW = (
    _networking(WorkloadGroup, "workloadgroups"),
    Kind("istio/networking/v1beta1/proxyconfigs", ProxyConfig, _NETWORKING, ("v1beta1",)),
    Kind("istio/telemetry/v1alpha1/telemetries", Telemetry, "telemetry.istio.io", ("v1alpha1", "v1")),
    Kind("istio/extensions/v1alpha1/wasmplugins", WasmPlugin, "extensions.istio.io", ("v1alpha1",)),
)
KINDS = {
    kind.message.DESCRIPTOR.name: kind
    for kind in (
        _networking(VirtualService, "virtualservices"),
        _networking(DestinationRule, "destinationrules"),
        _networking(Gateway, "gateways"),
        _networking(ServiceEntry, "serviceentries"),
        _networking(Sidecar, "sidecars"),
        _networking(EnvoyFilter, "envoyfilters", ("v1alpha3",)),
        _networking(WorkloadEntry, "workloadentries"),
        _security(PeerAuthentication, "peerauthentications"),
        _security(RequestAuthentication, "requestauthentications"),
        _security(AuthorizationPolicy, "authorizationpolicies"),
        *_NEW,
    )
}
"""By the name that YAML calls them."""
SINCE_2 = frozenset(kind.message.DESCRIPTOR.name for kind in _NEW)
"""Kinds that the first revision of the conversion refused."""
