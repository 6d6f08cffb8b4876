"""The synthetic service entries that Pilots 1.4 and 1.5 with `subscribedResources: [SERVICE_REGISTRY]` want. Pure.

They are the service entries, with two annotations by which such a Pilot finds out what changed: a change of the
service costs a push of everything, a change of endpoints only a push of those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.digests import content_digest, resource_digest

if TYPE_CHECKING:
    from mcp_gateway.resources import EncodedResource

SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SYNTHETIC_ENTRIES = "istio/networking/v1alpha3/synthetic/serviceentries"
SERVICE_VERSION = "networking.alpha.istio.io/serviceVersion"
ENDPOINTS_VERSION = "networking.alpha.istio.io/endpointsVersion"


def synthetic(entry: EncodedResource) -> EncodedResource:
    """The synthetic entry of a service entry; everything but its metadata is shared with it."""
    metadata = entry.metadata()
    head, *endpoints = entry.body()
    metadata.annotations[SERVICE_VERSION] = content_digest(head)
    metadata.annotations[ENDPOINTS_VERSION] = content_digest(*endpoints)
    return entry.with_metadata(metadata, resource_digest(SYNTHETIC_ENTRIES, entry.name, entry.version))
