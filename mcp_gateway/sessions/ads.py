"""The server's side of an ADS stream, state of the world, as istiod uses it as a config source. Pure.

istiod's first request of each type carries a made-up nonce: the first request per type and stream is initial
whatever its nonce. It always acknowledges: an ACK means received, not applied. MeshConfig is never answered:
an empty answer wedges istiod 1.9 to 1.11.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_gateway.errors import ProtocolError
from mcp_gateway.sessions.framing import delimited
from mcp_gateway.sessions.session import Received, Watches
from schemas.protobuf.envoy_discovery.discovery_pb2 import DiscoveryResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_gateway.resources import EncodedResource
    from schemas.protobuf.envoy_discovery.discovery_pb2 import DiscoveryRequest

MESH_CONFIG = "core/v1alpha1/MeshConfig"
MCP_RESOURCE_TYPE_URL = b"type.googleapis.com/istio.mcp.v1alpha1.Resource"
COLLECTIONS = {
    "networking.istio.io/DestinationRule": "istio/networking/v1alpha3/destinationrules",
    "networking.istio.io/EnvoyFilter": "istio/networking/v1alpha3/envoyfilters",
    "networking.istio.io/Gateway": "istio/networking/v1alpha3/gateways",
    "networking.istio.io/ServiceEntry": "istio/networking/v1alpha3/serviceentries",
    "networking.istio.io/Sidecar": "istio/networking/v1alpha3/sidecars",
    "networking.istio.io/VirtualService": "istio/networking/v1alpha3/virtualservices",
    "networking.istio.io/WorkloadEntry": "istio/networking/v1alpha3/workloadentries",
    "security.istio.io/AuthorizationPolicy": "istio/security/v1beta1/authorizationpolicies",
    "security.istio.io/PeerAuthentication": "istio/security/v1beta1/peerauthentications",
    "security.istio.io/RequestAuthentication": "istio/security/v1beta1/requestauthentications",
}
"""Collections by API group and kind: the API version in between is the peer's choice."""

_RESOURCES_TAG = 0x12  # DiscoveryResponse.resources: field 2
_ANY_TYPE_URL = delimited(0x0A, MCP_RESOURCE_TYPE_URL)


def mcp_resource_any(resource: EncodedResource) -> bytes:
    """The resource in an encoded `Any`."""
    return _ANY_TYPE_URL + delimited(0x12, resource.encoded)


class AdsFormat:
    """A full push as `DiscoveryResponse` of `istio.mcp.v1alpha1.Resource`s; its nonce is its version."""

    def frame(self, _: str, resource: EncodedResource) -> bytes:
        """The resource in an `Any`, as an entry of `resources`."""
        return delimited(_RESOURCES_TAG, mcp_resource_any(resource))

    def envelope(self, name: str, version: str, _: Sequence[str] | None) -> tuple[bytes, bytes]:
        """The version before the resources; the type URL that was asked for, and the nonce, after them."""
        head = DiscoveryResponse(version_info=version).SerializeToString()
        tail = DiscoveryResponse(type_url=name, nonce=version).SerializeToString()
        return head, tail


def collection_of(type_url: str) -> str:
    """The collection behind a type URL such as `networking.istio.io/v1/ServiceEntry`.

    A type of Istio's that shiplog has no resources of is a collection that stays empty.

    Raises:
        ProtocolError: it is not group/version/kind.
    """
    match type_url.split("/"):
        case [group, version, kind] if group and version and kind and not group.startswith("type."):
            return COLLECTIONS.get(f"{group}/{kind}", f"ads/{group}/{kind}")
        case _:
            raise ProtocolError(f"unknown type {type_url[:100]!r}: this is a source of Istio's configuration")


@dataclass(slots=True)
class AdsSession:
    """One client's stream; `node` is what it called itself."""

    node: str = ""
    watches: Watches = field(default_factory=Watches)

    def receive(self, request: DiscoveryRequest) -> Received | None:
        """Takes a request; None for one that is never answered.

        Raises:
            ProtocolError: not a type of Istio's configuration, or too many on one stream.
        """
        self.node = self.node or request.node.id
        if request.type_url == MESH_CONFIG:
            return None
        collection = collection_of(request.type_url)
        return self.watches.receive(
            collection,
            request.type_url,
            request.response_nonce,
            request.error_detail if request.HasField("error_detail") else None,
        )
