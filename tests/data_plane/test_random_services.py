"""Whatever is registered, Envoy takes what is made of it: a refused configuration stops a sidecar's updates."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from consumers.settings import ConversionSettings
from schemas.events import ServiceKey
from tests.harness import envoy
from tests.harness.envoy_config import bootstrap
from tests.property.hostile import STRINGS, json_values
from tests.unit.conversions import Log, make

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

EXAMPLES = int(os.environ.get("SHIPLOG_FUZZ_ENVOY", "15"))
"""2,000 in `make soak`; each is a namespace of some twenty services."""

ODD_TEXTS = st.one_of(st.sampled_from(STRINGS).map(json.loads), st.text(max_size=80))
NAMES = st.one_of(
    st.sampled_from(
        (
            "orders", "Orders", "ORDERS", "orders.v1", "orders_v1", "orders-v1", "providers:com.x.A:1.0:", "中文",
            "a" * 63, "a" * 64, "a." * 100, "-", ".", "..", "*", "x-", "-x", "10.0.0.1", "1", "orders.", "_",
        )
    ),
    ODD_TEXTS,
)  # fmt: skip
GROUPS = st.one_of(
    st.sampled_from(("DEFAULT_GROUP", "DEFAULT-GROUP", "default-group", "prod", "v1.prod")), ODD_TEXTS
)
ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(
        (
            "10.0.0.1", "10.0.0.2", "127.0.0.1", "0.0.0.0", "::", "::1", "[2001:db8::1]", "fe80::1%eth0",  # noqa: S104
            "fe80::1",
            "224.0.0.1", "255.255.255.255", "169.254.169.254", "::ffff:127.0.0.1", "2001:db8::1",
            "2001:DB8:0::1",
            "10.0.0.1", "10.0.0.2", "127.0.0.1", "0.0.0.0", "::", "::1", "[2001:db8::1]",  # noqa: S104
            "fe80::1%eth0",
            "2130706433", "010.0.0.1", "10.0.0.1.", "a_b.example", "-a.example", "a..b", "x" * 64 + ".example",
            "unix:///var/run/x", "10.0.0.0/8", "*", "*.example",
        )
    ),
    ODD_TEXTS,
)  # fmt: skip
PORTS = st.one_of(st.sampled_from((1, 80, 443, 8080, 20880, 65535)), st.integers(1, 65535))
WEIGHTS = st.one_of(
    st.sampled_from((0.0, 1e-300, 0.001, 1.0, 100.0, 10_000.0, 1e9, 1.7976931348623157e308)),
    st.floats(0, 1e6, allow_nan=False),
)
PROTOCOLS = (
    "http", "HTTP", "https", "grpc", "grpc-web", "GRPC-Web", "http2", "http_proxy", "tcp", "udp", "tls", "mongo",
    "redis", "mysql", "dubbo", "tri", "thrift", "rmi", "smtp", "h2c", "", " http", "hTtP",
)  # fmt: skip
METADATA = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.one_of(st.sampled_from(PROTOCOLS), ODD_TEXTS),
        "service-port": st.one_of(PORTS.map(str), st.sampled_from(("0", "65536", "-1", "00080")), ODD_TEXTS),
        "secure": st.sampled_from(("true", "false", "TRUE", "1")),
        "gRPC_port": st.one_of(PORTS.map(str), ODD_TEXTS),
        "gRPC.port": st.one_of(PORTS.map(str), ODD_TEXTS),
        "dubbo.endpoints": st.one_of(
            json_values,
            st.lists(
                st.fixed_dictionaries({"port": PORTS, "protocol": st.sampled_from(PROTOCOLS)}), max_size=6
            ).map(json.dumps),
        ),
        "dubbo.metadata-service.url-params": st.one_of(
            json_values,
            st.fixed_dictionaries({"port": PORTS.map(str), "protocol": st.sampled_from(PROTOCOLS)}).map(
                json.dumps
            ),
        ),
        "region": ODD_TEXTS,
        "zone": ODD_TEXTS,
        "network": ODD_TEXTS,
        "sourceClusterId": st.just("other"),
        "version": ODD_TEXTS,
    },
)
INSTANCES = st.builds(
    make, ADDRESSES, PORTS, cluster=st.sampled_from(("DEFAULT", "hz", "")), weight=WEIGHTS, healthy=st.booleans(),
    enabled=st.booleans(), metadata=METADATA,
)  # fmt: skip
SERVICES = st.dictionaries(
    st.builds(ServiceKey, GROUPS, NAMES), st.lists(INSTANCES, min_size=1, max_size=8), min_size=5, max_size=30
)


def refusal(entries: dict[str, ServiceEntry], folder: Path) -> str:
    """What Envoy has against them; empty when it takes them."""
    return envoy.validate(bootstrap(entries.values(), http_port=20001, tcp_port=20002), folder)


def check(services: dict[ServiceKey, list[Any]], conversion: ConversionSettings, folder: Path) -> None:
    """Envoy takes what is made of the services, and has a chain or a host of its own for each."""
    log = Log(conversion)
    log.keyframe({key: list({one[:3]: one for one in found}.values()) for key, found in services.items()})
    entries = log.entries()
    assert refusal(entries, folder) == ""
    hosts = [entry.hosts[0] for entry in entries.values()]
    assert len({host.lower() for host in hosts}) == len(hosts)


@pytest.mark.parametrize("settings_of_test", [{}, {"allow_local_addresses": True}, {"addresses": {"for": "all"}}])
@settings(
    max_examples=EXAMPLES,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(services=SERVICES)
def test_envoy_takes_what_is_made_of_any_services(
    services: dict[ServiceKey, list[Any]], settings_of_test: dict[str, Any], tmp_path: Path
) -> None:
    """Odd names, addresses, ports, weights and metadata, on the same ports and hosts."""
    check(services, ConversionSettings.model_validate(settings_of_test), tmp_path)


def test_envoy_takes_the_weights_of_thousands_of_instances(tmp_path: Path) -> None:
    """It adds a cluster's weights up in 32 bits, and refuses the cluster where they do not fit."""
    heavy = [make(f"10.{n >> 8}.{n & 255}.1", 80, weight=10_000.0) for n in range(4300)]
    check({ServiceKey("DEFAULT_GROUP", "heavy"): heavy}, ConversionSettings(), tmp_path)
