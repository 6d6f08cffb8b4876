"""The kinds of Istio's configuration that a config item may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from schemas.protobuf.istio_networking.destination_rule_pb2 import DestinationRule
from schemas.protobuf.istio_networking.envoy_filter_pb2 import EnvoyFilter
from schemas.protobuf.istio_networking.gateway_pb2 import Gateway
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.protobuf.istio_networking.sidecar_pb2 import Sidecar
from schemas.protobuf.istio_networking.virtual_service_pb2 import VirtualService
from schemas.protobuf.istio_networking.workload_entry_pb2 import WorkloadEntry
from schemas.protobuf.istio_security.authorization_policy_pb2 import AuthorizationPolicy
from schemas.protobuf.istio_security.peer_authentication_pb2 import PeerAuthentication
from schemas.protobuf.istio_security.request_authentication_pb2 import RequestAuthentication

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


def _networking(message: type[Message], plural: str) -> Kind:
    versions = ("v1alpha3", "v1beta1", "v1")
    return Kind(f"istio/networking/v1alpha3/{plural}", message, "networking.istio.io", versions)


def _security(message: type[Message], plural: str) -> Kind:
    return Kind(f"istio/security/v1beta1/{plural}", message, "security.istio.io", ("v1beta1", "v1"))


KINDS = {
    kind.message.DESCRIPTOR.name: kind
    for kind in (
        _networking(VirtualService, "virtualservices"),
        _networking(DestinationRule, "destinationrules"),
        _networking(Gateway, "gateways"),
        _networking(ServiceEntry, "serviceentries"),
        _networking(Sidecar, "sidecars"),
        _networking(EnvoyFilter, "envoyfilters"),
        _networking(WorkloadEntry, "workloadentries"),
        _security(PeerAuthentication, "peerauthentications"),
        _security(RequestAuthentication, "requestauthentications"),
        _security(AuthorizationPolicy, "authorizationpolicies"),
    )
}
"""By the name that YAML calls them."""
