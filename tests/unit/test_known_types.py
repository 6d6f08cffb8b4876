"""Which collections and types are answered, and which are refused."""

from __future__ import annotations

import pytest

from mcp_gateway.errors import ProtocolError
from mcp_gateway.servers.dialects import ads, delta_ads, mcp_source
from mcp_gateway.sessions.known_types import (
    API_VERSIONS,
    COLLECTIONS,
    MAX_TYPE_CHARACTERS,
    collection_of,
    mcp_collection,
)
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest, DiscoveryRequest
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

NETWORKING = [
    f"istio/networking/v1alpha3/{name}"
    for name in ("virtualservices", "gateways", "serviceentries", "destinationrules", "envoyfilters", "sidecars")
]
MIXER_CLIENT = [
    "istio/config/v1alpha2/httpapispecs",
    "istio/config/v1alpha2/httpapispecbindings",
    "istio/mixer/v1/config/client/quotaspecs",
    "istio/mixer/v1/config/client/quotaspecbindings",
]
POLICIES = ["istio/authentication/v1alpha1/policies", "istio/authentication/v1alpha1/meshpolicies"]
RBAC = [
    f"istio/rbac/v1alpha1/{name}"
    for name in ("serviceroles", "servicerolebindings", "rbacconfigs", "clusterrbacconfigs")
]
AUTHORIZATION = "istio/security/v1beta1/authorizationpolicies"
AUTHENTICATION = ["istio/security/v1beta1/peerauthentications", "istio/security/v1beta1/requestauthentications"]
SERVICE_APIS = [
    f"k8s/service_apis/v1alpha1/{name}"
    for name in ("gatewayclasses", "gateways", "httproutes", "tcproutes", "trafficsplits")
]
PILOTS = {
    "1.1": [*NETWORKING, *MIXER_CLIENT, *POLICIES, *RBAC],
    "1.2": [*NETWORKING, *MIXER_CLIENT, *POLICIES, *RBAC, "istio/rbac/v1alpha1/authorizationpolicies"],
    "1.4": [
        *NETWORKING, *MIXER_CLIENT, *POLICIES, *RBAC, AUTHORIZATION,
        "istio/networking/v1alpha3/synthetic/serviceentries",
    ],
    "1.5": [*NETWORKING, *MIXER_CLIENT, *POLICIES, *RBAC, AUTHORIZATION, *AUTHENTICATION],
    "1.6": [
        *NETWORKING, *MIXER_CLIENT, *RBAC, AUTHORIZATION, *AUTHENTICATION,
        "istio/networking/v1alpha3/workloadentries",
    ],
    "1.8 with service APIs": [
        *NETWORKING, AUTHORIZATION, *AUTHENTICATION, *SERVICE_APIS, "istio/networking/v1alpha3/workloadentries",
    ],
    "Mixer 1.1": [
        "istio/policy/v1beta1/rules", "istio/policy/v1beta1/handlers", "istio/policy/v1beta1/instances",
        "istio/policy/v1beta1/attributemanifests", "istio/config/v1alpha2/templates",
        "istio/config/v1alpha2/adapters", "istio/config/v1alpha2/legacy/zipkins",
    ],
}  # fmt: skip


def types(group: str, version: str, *kinds: str) -> list[str]:
    """Type URLs of that group."""
    return [f"{group}/{version}/{kind}" for kind in kinds]


TRAFFIC = (
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "Sidecar",
    "VirtualService",
    "WorkloadEntry",
    "WorkloadGroup",
)
SECURITY = ("AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication")
ISTIODS = {
    "1.12": [
        *types("extensions.istio.io", "v1alpha1", "WasmPlugin"),
        *types("networking.istio.io", "v1alpha3", *TRAFFIC, "EnvoyFilter"),
        *types("security.istio.io", "v1beta1", *SECURITY),
        *types("telemetry.istio.io", "v1alpha1", "Telemetry"),
    ],
    "1.20": [
        *types("extensions.istio.io", "v1alpha1", "WasmPlugin"),
        *types("networking.istio.io", "v1alpha3", *TRAFFIC, "EnvoyFilter"),
        *types("networking.istio.io", "v1beta1", "ProxyConfig"),
        *types("security.istio.io", "v1beta1", *SECURITY),
        *types("telemetry.istio.io", "v1alpha1", "Telemetry"),
    ],
    "1.31": [
        *types("extensions.istio.io", "v1alpha1", "WasmPlugin", "TrafficExtension"),
        *types("networking.istio.io", "v1", *TRAFFIC),
        *types("networking.istio.io", "v1alpha3", "EnvoyFilter"),
        *types("networking.istio.io", "v1beta1", "ProxyConfig"),
        *types("security.istio.io", "v1", *SECURITY),
        *types("telemetry.istio.io", "v1", "Telemetry"),
    ],
    "with gateway APIs, or newer": [
        *types("gateway.networking.k8s.io", "v1", "GatewayClass", "Gateway", "HTTPRoute", "GRPCRoute"),
        *types("gateway.networking.k8s.io", "v1alpha2", "TCPRoute", "TLSRoute"),
        *types("gateway.networking.x-k8s.io", "v1alpha1", "XListenerSet"),
        *types("inference.networking.k8s.io", "v1", "InferencePool"),
        *types("networking.istio.io", "v2", "KindOfTheFuture"),
        *types("observability.istio.io", "v1beta2", "Trace"),
    ],
}


@pytest.mark.parametrize("pilot", PILOTS)
def test_every_collection_that_a_pilot_lists_is_answered(pilot: str) -> None:
    """Empty ones too: until then a Pilot of MCP is never ready."""
    session = mcp_source(()).session()
    for name in PILOTS[pilot]:
        session.receive(RequestResources(collection=name))
    assert [watch.asked_as for watch in session.watches.due(lambda _: "v1")] == PILOTS[pilot]


@pytest.mark.parametrize("istiod", ISTIODS)
def test_every_type_that_an_istiod_lists_is_answered(istiod: str) -> None:
    """Empty ones too, from 1.12 to 1.31, and kinds of Istio's groups that shiplog has never heard of."""
    session = ads().session()
    for type_url in ("core/v1alpha1/MeshConfig", *ISTIODS[istiod]):
        session.receive(DiscoveryRequest(type_url=type_url, response_nonce="made up"))
    assert [watch.asked_as for watch in session.watches.due(lambda _: "v1")] == ISTIODS[istiod]


@pytest.mark.parametrize("type_url", ["core/v1alpha1/MeshConfig", "core/v1alpha1/MeshNetworks"])
def test_what_belongs_to_the_mesh_is_not_answered(type_url: str) -> None:
    """Over ADS and Delta ADS; nothing of it is kept."""
    state, delta = ads().session(), delta_ads().session()
    assert state.receive(DiscoveryRequest(type_url=type_url)) is None
    assert delta.receive(DeltaDiscoveryRequest(type_url=type_url)) is None
    assert not len(state.watches) + len(delta.watches)


@pytest.mark.parametrize(
    "name",
    [
        "", "istio/", "istio/x", "nonsense", "istio/of/the/future", "istio/networking/v1alpha3/serviceentries/",
        "istio/networking/v1alpha3/ServiceEntries", "istio/config/v1alpha2/legacy/" + "x" * 41,
        "istio/config/v1alpha2/legacy/zipkins\n", "k8s/core/v1/pods", "istio/mesh/v1alpha1/MeshConfig",
    ],
)  # fmt: skip
def test_a_collection_that_is_not_istios_is_refused(name: str) -> None:
    """The error names it, and the setting that would have it answered."""
    with pytest.raises(ProtocolError, match=r"unknown collection .* gateway\.also_answered"):
        mcp_collection(name)


@pytest.mark.parametrize(
    "type_url",
    [
        "", "x", "a//b", "a/b/c/d", "type.googleapis.com/envoy.config.cluster.v3.Cluster", "example.com/v1/Thing",
        "networking.istio.io/1/Thing", "networking.istio.io/v0/Thing", "networking.istio.io/v1/", "/v1/Thing",
        "networking.istio.io/v1/Thing\n", "networking.istio.io.example/v1/Thing", "xistio.io/v1/Thing",
        "networking.istio.io/v1/" + "T" * 64, "core/v1/Pod", "networking.istio.io/v1/Th\u00efng",
        "networking.istio.io/v\u0661/Thing", "x" * 100 + ".istio.io/v1/" + "T" * (MAX_TYPE_CHARACTERS - 50),
    ],
)  # fmt: skip
def test_a_type_that_is_not_istios_is_refused(type_url: str) -> None:
    """The error names it, and the setting that would have it answered."""
    with pytest.raises(ProtocolError, match=r"unknown type .* gateway\.also_answered"):
        collection_of(type_url)


@pytest.mark.parametrize("group_and_kind", COLLECTIONS)
def test_a_kind_with_resources_has_the_api_versions_of_istio_and_no_others(group_and_kind: str) -> None:
    """Each spelling keeps a whole message. It is refused, not answered empty: that would delete what there is."""
    group, kind = group_and_kind.split("/")
    spellings = [f"v{number}" for number in range(1, 30)]
    spellings += [
        f"v{number}{stage}{step}" for number in (1, 2) for stage in ("alpha", "beta") for step in (1, 2, 3)
    ]
    taken = []
    for version in spellings:
        try:
            taken.append((collection_of(f"{group}/{version}/{kind}"), version))
        except ProtocolError as error:
            assert ", ".join(API_VERSIONS[group]) in str(error)  # noqa: PT017 - those that are taken are looked at below
    assert sorted(version for _, version in taken) == sorted(API_VERSIONS[group])
    assert {collection for collection, _ in taken} == {COLLECTIONS[group_and_kind]}


def test_forks_of_istio_may_have_more_answered() -> None:
    """By patterns, for MCP and for ADS; a kind with resources stays as it is."""
    also = ("example/*", "networking.example.io/*")
    assert mcp_collection("example/v1/things", also) == "example/v1/things"
    assert collection_of("networking.example.io/v1/Thing", also) == "ads/networking.example.io/v1/Thing"
    with pytest.raises(ProtocolError):
        mcp_collection("example/" + "x" * MAX_TYPE_CHARACTERS, also)
    with pytest.raises(ProtocolError):
        collection_of("networking.istio.io/v7/ServiceEntry", ("*",))
