"""What a real Nacos takes of odd instances, and what Pilots get of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from shiplog.watch.client import entry_of
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import NacosServer

DUBBO = json.dumps({"dubbo.endpoints": '[{"port":20880,"protocol":"dubbo"},{"port":50051,"protocol":"tri"}]'})
CASES: dict[str, list[dict[str, Any]]] = {
    "secure": [{"ip": "10.80.0.1", "port": 8443, "metadata": '{"secure":"true"}'}],
    "grpc": [
        {"ip": "10.80.1.1", "port": 8080, "metadata": '{"gRPC_port":"9091"}'},
        {"ip": "10.80.1.2", "port": 8080, "metadata": '{"gRPC_port":"9092"}'},
        {"ip": "10.80.1.3", "port": 8080, "metadata": '{"gRPC_port":"9093"}'},
    ],
    "dubbo": [{"ip": "10.80.2.1", "port": 20880, "metadata": DUBBO}],
    "thrift": [{"ip": "10.80.3.1", "port": 9000, "metadata": '{"protocol":"thrift"}'}],
    "odd": [
        {"ip": "127.0.0.1", "port": 80},
        {"ip": "h.example", "port": 80},
        {"ip": "10.80.4.1", "port": 80},
        {"ip": "10.80.4.2", "port": 80},
    ],
    "consumers:com.example.Orders:1.0.0:": [{"ip": "10.80.5.1", "port": 0}],
}
WANTED = {
    "secure": (["https 8443/HTTPS"], ["10.80.0.1 https=8443"]),
    "grpc": (
        ["http 8080/HTTP", "grpc 9091/GRPC"],
        [f"10.80.1.{n} grpc=909{n} http=8080" for n in (1, 2, 3)],
    ),
    "dubbo": (["tcp 20880/TCP", "grpc 50051/GRPC"], ["10.80.2.1 grpc=50051 tcp=20880"]),
    "thrift": (["tcp 9000/TCP"], ["10.80.3.1 tcp=9000"]),
    "odd": (["http 80/HTTP"], ["10.80.4.1 http=80", "10.80.4.2 http=80"]),
}


def shown(entry: ServiceEntry) -> tuple[list[str], list[str]]:
    """Ports and endpoints in words."""
    ports = [f"{port.name} {port.number}/{port.protocol}" for port in entry.ports]
    return ports, sorted(
        " ".join([one.address, *(f"{name}={number}" for name, number in sorted(one.ports.items()))])
        for one in entry.endpoints
    )


def test_what_frameworks_and_odd_clients_register_comes_out_right(
    processes: Processes, nacos: NacosServer, namespace: str, pilots: Callable[..., Pilot]
) -> None:
    """Ports, protocols and addresses; nothing is quarantined of consumers; the page says what is set aside.

    The instances are persistent and not there: once Nacos finds all of a service unhealthy it gives all of it out.
    """
    for service, instances in CASES.items():
        for facts in instances:
            answer = httpx.post(
                f"{nacos.url}/nacos/v1/ns/instance",
                params={
                    "namespaceId": namespace,
                    "serviceName": f"apps@@{service}",
                    "ephemeral": "false",
                    **facts,
                },
                timeout=10,
            )
            assert answer.is_success, (service, facts, answer.text)
    listener, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)

    def served() -> dict[str, tuple[list[str], list[str]]]:
        if pilot.last is None:
            return {}
        entries = {name: entry_of(one) for name, one in pilot.last.resources.items()}
        return {
            name.partition("/")[2].partition(".apps.")[0]: shown(entry)
            for name, entry in entries.items()
            if entry is not None
        }

    wait_for(lambda: served() == WANTED, timeout_s=90, what=f"{WANTED}; there is {served()}")
    metrics = httpx.get(f"http://127.0.0.1:{listener.admin_port}/metrics", timeout=5).text
    assert 'reason="bad_port"' not in metrics

    def set_aside() -> list[str]:
        lines = materializer.debug(f"namespace/{namespace}").get("set_aside", {}).get("apps@@odd", ())
        return sorted(line.rpartition(": ")[2] for line in lines)

    wanted = ["local_address", "other_resolution"]
    wait_for(lambda: set_aside() == wanted, timeout_s=60, what=f"{wanted} set aside")
