"""The collections and types that Pilots ask for: with resources, without any, unanswered, or refused. Pure.

                                          MCP                          ADS and Delta ADS
    a kind that shiplog has resources of  its collection               its collection, under Istio's API versions
    another kind of Istio's               empty                        empty
    MeshConfig, MeshNetworks              refused, as any other        never answered
    anything else                         refused                      refused

A Pilot is ready only when every type that it lists is answered, so what belongs to Istio is answered empty. MCP
ended with Istio 1.8: its collections are a closed list. ADS is asked by Pilots that are newer than shiplog: there
any kind of Istio's API groups, and of the gateway APIs, counts. A spelling costs a watch, and for a kind with
resources a message of the whole collection; so the API versions of these are a closed list, too.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mcp_gateway.errors import ProtocolError
from mcp_gateway.patterns import matches
from mcp_gateway.views.synthetic import SYNTHETIC_ENTRIES

UNANSWERED = frozenset({"core/v1alpha1/MeshConfig", "core/v1alpha1/MeshNetworks"})
"""An empty MeshConfig wedges istiod 1.9 to 1.11; none does no harm."""

COLLECTIONS = {
    "extensions.istio.io/WasmPlugin": "istio/extensions/v1alpha1/wasmplugins",
    "networking.istio.io/DestinationRule": "istio/networking/v1alpha3/destinationrules",
    "networking.istio.io/EnvoyFilter": "istio/networking/v1alpha3/envoyfilters",
    "networking.istio.io/Gateway": "istio/networking/v1alpha3/gateways",
    "networking.istio.io/ProxyConfig": "istio/networking/v1beta1/proxyconfigs",
    "networking.istio.io/ServiceEntry": "istio/networking/v1alpha3/serviceentries",
    "networking.istio.io/Sidecar": "istio/networking/v1alpha3/sidecars",
    "networking.istio.io/VirtualService": "istio/networking/v1alpha3/virtualservices",
    "networking.istio.io/WorkloadEntry": "istio/networking/v1alpha3/workloadentries",
    "networking.istio.io/WorkloadGroup": "istio/networking/v1alpha3/workloadgroups",
    "security.istio.io/AuthorizationPolicy": "istio/security/v1beta1/authorizationpolicies",
    "security.istio.io/PeerAuthentication": "istio/security/v1beta1/peerauthentications",
    "security.istio.io/RequestAuthentication": "istio/security/v1beta1/requestauthentications",
    "telemetry.istio.io/Telemetry": "istio/telemetry/v1alpha1/telemetries",
}
"""Collections that shiplog has resources of, by API group and kind."""

API_VERSIONS = {
    "extensions.istio.io": ("v1alpha1",),
    "networking.istio.io": ("v1alpha3", "v1beta1", "v1"),
    "security.istio.io": ("v1beta1", "v1"),
    "telemetry.istio.io": ("v1alpha1", "v1"),
}
"""The versions under which Istio has the kinds of `COLLECTIONS`."""

MCP_COLLECTIONS = frozenset(
    {
        *COLLECTIONS.values(),
        SYNTHETIC_ENTRIES,
        *(f"istio/authentication/v1alpha1/{name}" for name in ("policies", "meshpolicies")),
        *(
            f"istio/config/v1alpha2/{name}"
            for name in ("adapters", "httpapispecbindings", "httpapispecs", "templates")
        ),
        *(f"istio/mixer/v1/config/client/{name}" for name in ("quotaspecbindings", "quotaspecs")),
        *(f"istio/policy/v1beta1/{name}" for name in ("attributemanifests", "handlers", "instances", "rules")),
        *(
            f"istio/rbac/v1alpha1/{name}"
            for name in (
                "authorizationpolicies",
                "clusterrbacconfigs",
                "rbacconfigs",
                "servicerolebindings",
                "serviceroles",
            )
        ),
        *(
            f"k8s/service_apis/v1alpha1/{name}"
            for name in ("gatewayclasses", "gateways", "httproutes", "tcproutes", "trafficsplits")
        ),
    }
)
"""What Pilots and Mixers 1.1 to 1.8 may ask for, and every kind that shiplog has resources of."""

_MIXER_LEGACY = re.compile(r"istio/config/v1alpha2/legacy/[a-z]{1,40}")
_TYPE = re.compile(r"([^/]+)/(v[1-9]\d?(?:(?:alpha|beta)[1-9]\d?)?)/([A-Za-z][A-Za-z0-9]{0,62})", re.ASCII)
_GROUP_OF_ISTIO = re.compile(r"[a-z0-9.-]+\.istio\.io|([a-z0-9-]+\.)?networking\.(x-)?k8s\.io", re.ASCII)
MAX_TYPE_CHARACTERS = 200
"""Longer names are refused: each is kept with its watch."""


def mcp_collection(name: str, also_answered: tuple[str, ...] = ()) -> str:
    """The name itself, if a sink may ask for it; `also_answered` are patterns of further ones.

    Raises:
        ProtocolError: it is no collection of Istio's.
    """
    if name not in MCP_COLLECTIONS and not _MIXER_LEGACY.fullmatch(name) and not _is_also(name, also_answered):
        raise ProtocolError(f"unknown collection {name[:100]!r}: Pilots of Istio do not ask for it{_REMEDY}")
    return name


def collection_of(type_url: str, also_answered: tuple[str, ...] = ()) -> str:
    """The collection behind a type URL such as `networking.istio.io/v1/ServiceEntry`.

    A type that shiplog has no resources of is a collection that stays empty; `also_answered` are patterns of such
    types beyond Istio's.

    Raises:
        ProtocolError: it is no configuration of Istio's, or under an API version that Istio does not have.
    """
    if len(type_url) > MAX_TYPE_CHARACTERS:
        raise _unknown(type_url)
    return _collection_of(type_url, also_answered)


@lru_cache(maxsize=1024)
def _collection_of(type_url: str, also_answered: tuple[str, ...]) -> str:
    found = _TYPE.fullmatch(type_url)
    if found is not None:
        group, version, kind = found.groups()
        collection = COLLECTIONS.get(f"{group}/{kind}")
        if collection is not None:
            if version in API_VERSIONS[group]:
                return collection
            known = ", ".join(API_VERSIONS[group])
            raise ProtocolError(f"unknown API version of {group}/{kind}: {version}; known are {known}")
        if _GROUP_OF_ISTIO.fullmatch(group):
            return f"ads/{group}/{kind}"
    if _is_also(type_url, also_answered):
        return f"ads/{type_url}"
    raise _unknown(type_url)


def _is_also(name: str, also_answered: tuple[str, ...]) -> bool:
    return bool(also_answered) and len(name) <= MAX_TYPE_CHARACTERS and matches(name, also_answered)


def _unknown(type_url: str) -> ProtocolError:
    return ProtocolError(f"unknown type {type_url[:100]!r}: this is a source of Istio's configuration{_REMEDY}")


_REMEDY = " (the gateway answers more with gateway.also_answered)"
