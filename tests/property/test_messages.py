"""What stands around the resources of a push is what protobuf would write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.sessions.ads import AdsFormat
from mcp_gateway.sessions.delta_ads import DeltaAdsFormat
from mcp_gateway.sessions.mcp_source import McpFormat
from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryResponse, DiscoveryResponse
from schemas.protobuf.istio_mcp.mcp_pb2 import Resources

texts = st.one_of(st.text(max_size=5), st.text(min_size=100, max_size=300))  # lengths of one byte, and of two


@given(name=texts, version=texts, removed=st.none() | st.lists(texts, max_size=3))
def test_envelopes_are_what_protobuf_would_write(name: str, version: str, removed: list[str] | None) -> None:
    """Byte for byte, in each dialect; an empty text is left out, a name in a list is not."""
    mcp = Resources(
        system_version_info=version,
        collection=name,
        removed_resources=removed or (),
        nonce=version,
        incremental=removed is not None,
    )
    delta = DeltaDiscoveryResponse(
        system_version_info=version, type_url=name, nonce=version, removed_resources=removed or ()
    )
    ads = DiscoveryResponse(version_info=version, type_url=name, nonce=version)
    for form, message in ((McpFormat(), mcp), (DeltaAdsFormat(), delta), (AdsFormat(), ads)):
        assert b"".join(form.envelope(name, version, removed)) == message.SerializeToString()
