"""What the gateway counts, under the names that Istio's operators know."""

from __future__ import annotations

from prometheus_client import REGISTRY

import mcp_gateway.metrics  # noqa: F401 - registers them


def test_the_names_are_those_of_istios_own_server_where_the_meaning_is_the_same() -> None:
    """Dashboards made for `istio_mcp_*` go on working."""
    found = {metric.name: metric for metric in REGISTRY.collect()}
    for name in ("clients_total", "message_sizes_bytes", "request_acks", "request_nacks", "send_failures"):
        assert f"istio_mcp_{name}" in found
    assert "istio_mcp_reconnections" in found
