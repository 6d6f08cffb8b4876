"""What the snapshots say, in a real Envoy: requests reach the listed instances, by weights and ports."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from consumers.settings import ConversionSettings
from schemas.events import ServiceKey
from tests.harness import envoy
from tests.harness.envoy_config import bootstrap
from tests.harness.servers import free_port
from tests.unit.conversions import Log, make

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from schemas.events import Instance
    from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

LOCAL = ConversionSettings.model_validate({"allow_local_addresses": True})


def entries_of(
    services: Mapping[str, list[Instance]], settings: ConversionSettings = LOCAL
) -> dict[str, ServiceEntry]:
    """The ServiceEntries of services, called `group@@name` or of the default group, by resource name."""
    keys = {
        name: ServiceKey(*(name.split("@@") if "@@" in name else ("DEFAULT_GROUP", name))) for name in services
    }
    log = Log(settings)
    log.keyframe({keys[name]: instances for name, instances in services.items()})
    return log.entries()


class Sidecar:
    """A running Envoy with the entries of these services."""

    def __init__(self, http_port: int, tcp_port: int, entries: dict[str, ServiceEntry]) -> None:
        self.http_port = http_port
        self.tcp_port = tcp_port
        self.entries = entries

    def ask(self, host: str) -> tuple[int, str]:
        """Status and text of the answer to a request for that host and port."""
        return envoy.get(self.http_port, host=host)

    def dial(self, host: str, port: int) -> str:
        """What answers at the service's own address."""
        (entry,) = [one for one in self.entries.values() if one.hosts[0] == host]
        return envoy.dial(self.tcp_port, entry.addresses[0], port)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is to be stopped at the end of a test."""
    with ExitStack() as entered:
        yield entered


def sidecar(stack: ExitStack, folder: Path, entries: dict[str, ServiceEntry], dns_port: int = 0) -> Sidecar:
    """Starts an Envoy with these entries."""
    http, tcp, admin = free_port(), free_port(), free_port()
    config = bootstrap(entries.values(), http_port=http, tcp_port=tcp, admin_port=admin, dns_port=dns_port)
    stack.enter_context(envoy.running(config, folder, admin))
    return Sidecar(http, tcp, entries)


def test_a_service_of_the_default_group_answers_however_its_host_is_spelled(
    stack: ExitStack, tmp_path: Path
) -> None:
    """Routes carry lower-case hosts and cluster names: an entry with another spelling has no cluster there."""
    port = stack.enter_context(envoy.serving(envoy.http_server()))
    entries = entries_of({"Orders": [make("127.0.0.1", port)], "MY_GROUP@@Pay": [make("127.0.0.1", port)]})
    mesh = sidecar(stack, tmp_path, entries)
    hosts = [entry.hosts[0] for entry in entries.values()]
    assert len(hosts) == 2
    for host in hosts:
        for spelling in (host, host.upper(), host.title()):
            assert mesh.ask(f"{spelling}:{port}") == (200, f"127.0.0.1:{port}")


def test_requests_are_shared_by_weight(stack: ExitStack, tmp_path: Path) -> None:
    """Weights 1 and 3 get 3 and 9 of 12 requests, also beside thousands of heavy instances elsewhere."""
    first, second = (stack.enter_context(envoy.serving(envoy.http_server(f"127.0.0.{n}"))) for n in (1, 2))
    heavy = [make(f"10.{n >> 8}.{n & 255}.1", 80, weight=10_000.0) for n in range(4300)]
    instances = [make("127.0.0.1", first, weight=1.0), make("127.0.0.2", second, weight=3.0)]
    for instance in instances:
        instance.metadata["service-port"] = "80"
    mesh = sidecar(stack, tmp_path, entries_of({"svc": instances, "heavy": heavy}))
    answers = Counter(mesh.ask("svc.default-group.public.nacos:80")[1] for _ in range(12))
    assert answers == {f"127.0.0.1:{first}": 3, f"127.0.0.2:{second}": 9}


def test_each_endpoint_answers_on_a_port_of_its_own(stack: ExitStack, tmp_path: Path) -> None:
    """The service's port is one, its instances' ports differ."""
    ports = [stack.enter_context(envoy.serving(envoy.http_server())) for _ in range(3)]
    instances = [make("127.0.0.1", port, metadata={"service-port": "8080"}) for port in ports]
    mesh = sidecar(stack, tmp_path, entries_of({"svc": instances}))
    answers = {mesh.ask("svc.default-group.public.nacos:8080") for _ in range(9)}
    assert answers == {(200, f"127.0.0.1:{port}") for port in ports}


def test_a_second_port_reaches_the_servers_of_that_port(stack: ExitStack, tmp_path: Path) -> None:
    """Spring's `gRPC_port` is a port of the entry: what speaks gRPC goes there, HTTP to the first."""
    http = stack.enter_context(envoy.serving(envoy.http_server()))
    grpc = stack.enter_context(envoy.serving(envoy.http_server()))
    entries = entries_of({"svc": [make("127.0.0.1", http, metadata={"gRPC_port": str(grpc)})]})
    (entry,) = entries.values()
    assert [(one.number, one.protocol) for one in entry.ports] == [(http, "HTTP"), (grpc, "GRPC")]
    entry.ports[1].protocol = "HTTP"  # the server behind speaks HTTP/1.1: only the address is in question
    mesh = sidecar(stack, tmp_path, entries)
    host = entry.hosts[0]
    assert mesh.ask(f"{host}:{http}") == (200, f"127.0.0.1:{http}")
    assert mesh.ask(f"{host}:{grpc}") == (200, f"127.0.0.1:{grpc}")


def test_instances_that_are_host_names_are_resolved(stack: ExitStack, tmp_path: Path) -> None:
    """By DNS, and answered by what the name leads to."""
    dns = stack.enter_context(envoy.serving(envoy.dns_server()))
    port = stack.enter_context(envoy.serving(envoy.http_server("127.0.0.9")))
    mesh = sidecar(stack, tmp_path, entries_of({"svc": [make("orders.example", port)]}), dns)
    assert mesh.ask(f"svc.default-group.public.nacos:{port}") == (200, f"127.0.0.9:{port}")


def test_localities_share_by_the_weight_of_their_endpoints(stack: ExitStack, tmp_path: Path) -> None:
    """Two endpoints in a zone and one in another: each gets a third."""
    servers = [stack.enter_context(envoy.serving(envoy.http_server(f"127.0.0.{n}"))) for n in (1, 2, 3)]
    zones = [{"region": "cn", "zone": "a"}, {"region": "cn", "zone": "a"}, {"region": "cn", "zone": "b"}]
    instances = [
        make(f"127.0.0.{n}", port, metadata={"service-port": "80"} | zone)
        for n, (port, zone) in enumerate(zip(servers, zones, strict=True), 1)
    ]
    entries = entries_of({"svc": instances})
    (entry,) = entries.values()
    assert sorted(one.locality for one in entry.endpoints) == ["cn/a", "cn/a", "cn/b"]
    mesh = sidecar(stack, tmp_path, entries)
    answers = Counter(mesh.ask("svc.default-group.public.nacos:80")[1] for _ in range(12))
    assert answers == {f"127.0.0.{n}:{port}": 4 for n, port in enumerate(servers, 1)}


def test_two_services_without_http_on_one_port_are_told_apart(stack: ExitStack, tmp_path: Path) -> None:
    """Every provider of Dubbo listens on 20880: each service has an address of its own."""
    first, second = (stack.enter_context(envoy.serving(envoy.tcp_server(f"127.0.0.{n}"))) for n in (1, 2))
    dubbo = {"protocol": "dubbo", "service-port": "20880"}
    services = {
        "providers:com.x.A:1.0:": [make("127.0.0.1", first, metadata=dubbo)],
        "providers:com.x.B:1.0:": [make("127.0.0.2", second, metadata=dubbo)],
    }
    entries = entries_of(services)
    mesh = sidecar(stack, tmp_path, entries)
    answers = {mesh.dial(entry.hosts[0], 20880) for entry in entries.values()}
    assert answers == {f"127.0.0.1:{first}", f"127.0.0.2:{second}"}


def test_a_service_without_instances_is_unavailable_and_not_unknown(stack: ExitStack, tmp_path: Path) -> None:
    """Its entry stays for a while: callers get 503 of its cluster, not 404."""
    key = ServiceKey("DEFAULT_GROUP", "svc")
    log = Log(LOCAL)
    log.keyframe({key: [make("127.0.0.1", 8080)]})
    log.keyframe({})
    mesh = sidecar(stack, tmp_path, log.entries())
    assert mesh.ask("svc.default-group.public.nacos:8080")[0] == 503
