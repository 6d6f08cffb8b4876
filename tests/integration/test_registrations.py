"""Odd but real registrations, through a real Nacos: the ServiceEntries that a Pilot gets of each."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from shiplog.watch.client import entry_of
from tests.harness.pilot import wait_for
from tests.unit.conversions import make

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemas.events import Instance
    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes


class Case(NamedTuple):
    """What an application registers, and the entry that Pilots get of it: `host: ports resolution endpoints`.

    An endpoint is `address:port[+port]*weight`, its ports in the order of the entry's; N stands for the namespace.
    """

    registered: str
    instances: list[Instance]
    entry: str


DUBBO = {"dubbo.endpoints": '[{"port":20880,"protocol":"dubbo"},{"port":50051,"protocol":"tri"}]'}
CASES = (
    # Names.
    Case("Orders", [make("10.1.0.1")], "orders.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100"),
    Case("MY_GROUP@@pay_v1", [make("10.1.0.1")], "pay-v1.my-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100"),
    Case("DEV@@pay", [make("10.1.0.1")], "pay.dev.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100"),
    Case(
        "providers:com.example.Stock:1.0:",
        [make("10.1.0.1", 20880, metadata={"protocol": "dubbo"})],
        "providers-com.example.stock-1.0.default-group.N.nacos: 20880/TCP STATIC 10.1.0.1:20880*100",
    ),
    # Ports and protocols.
    Case(
        "one-of-three",
        [make("10.1.0.1"), make("10.1.0.2"), make("10.1.0.3", metadata={"protocol": "tcp", "service-port": "1"})],
        "one-of-three.default-group.N.nacos: 8080/HTTP STATIC "
        "10.1.0.1:8080*100 10.1.0.2:8080*100 10.1.0.3:8080*100",
    ),
    Case(
        "thrift",
        [make("10.1.0.1", 9090, metadata={"protocol": "thrift"})],
        "thrift.default-group.N.nacos: 9090/TCP STATIC 10.1.0.1:9090*100",
    ),
    Case(
        "mysql",
        [make("10.1.0.1", 3306, metadata={"protocol": "MySQL"})],
        "mysql.default-group.N.nacos: 3306/MYSQL STATIC 10.1.0.1:3306*100",
    ),
    Case(
        "web",
        [make("10.1.0.1", metadata={"protocol": "grpc-web"})],
        "web.default-group.N.nacos: 8080/GRPC-WEB STATIC 10.1.0.1:8080*100",
    ),
    Case(
        "secure",
        [make("10.1.0.1", 8443, metadata={"secure": "true", "preserved.register.source": "SPRING_CLOUD"})],
        "secure.default-group.N.nacos: 8443/HTTPS STATIC 10.1.0.1:8443*100",
    ),
    Case(
        "two-ports",
        [make("10.1.0.1", metadata={"gRPC_port": "9090"}), make("10.1.0.2", 8081, metadata={"gRPC_port": "9091"})],
        "two-ports.default-group.N.nacos: 8080/HTTP 9090/GRPC STATIC "
        "10.1.0.1:8080+9090*100 10.1.0.2:8081+9091*100",
    ),
    Case(
        "dubbo-app",
        [make("10.1.0.1", 20880, metadata=DUBBO)],
        "dubbo-app.default-group.N.nacos: 20880/TCP 50051/GRPC STATIC 10.1.0.1:20880+50051*100",
    ),
    Case(
        "garbled",
        [make("10.1.0.1", metadata={"dubbo.endpoints": "[[[{", "service-port": "0000655359"})],
        "garbled.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100",
    ),
    # Addresses and weights.
    Case(
        "brackets",
        [make("2001:db8::1"), make("2001:db8::2")],
        "brackets.default-group.N.nacos: 8080/HTTP STATIC 2001:db8::1:8080*100 2001:db8::2:8080*100",
    ),
    Case(
        "names",
        [make("orders-1.example"), make("orders-2.example")],
        "names.default-group.N.nacos: 8080/HTTP DNS orders-1.example:8080*100 orders-2.example:8080*100",
    ),
    Case(
        "mixed",
        [make("10.1.0.1"), make("10.1.0.2"), make("orders-1.example")],
        "mixed.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100 10.1.0.2:8080*100",
    ),
    Case(
        "metadata-service",
        [make("10.1.0.1"), make("169.254.169.254", 80), make("127.0.0.1", 15000), make("224.0.0.1")],
        "metadata-service.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100",
    ),
    Case(
        "stated-twice",
        [make("10.1.0.1", cluster="DEFAULT"), make("10.1.0.1", cluster="HZ"), make("10.1.0.2")],
        "stated-twice.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*100 10.1.0.2:8080*100",
    ),
    Case(
        "weights",
        [make("10.1.0.1", weight=0.5), make("10.1.0.2", weight=3.0), make("10.1.0.3", weight=0.0)],
        "weights.default-group.N.nacos: 8080/HTTP STATIC 10.1.0.1:8080*50 10.1.0.2:8080*300",
    ),
)
WITHOUT_HTTP = 5
"""Services that are told apart by their addresses: the provider, thrift, mysql, secure, dubbo-app."""


def summary(entry: ServiceEntry) -> str:
    """As a case states it."""
    ports = " ".join(f"{one.number}/{one.protocol}" for one in entry.ports)
    endpoints = sorted(
        f"{one.address}:{'+'.join(str(one.ports[port.name]) for port in entry.ports)}*{one.weight}"
        for one in entry.endpoints
    )
    return f"{entry.hosts[0]}: {ports} {ServiceEntry.Resolution.Name(entry.resolution)} {' '.join(endpoints)}"


def test_each_registration_becomes_the_entry_that_istio_takes(
    processes: Processes, load: Load, namespace: str, pilots: Callable[..., Pilot]
) -> None:
    """By way of Nacos, listener, log and gateway; services without HTTP have an address of their own."""
    gateway = processes.start_all()[2]
    for case in CASES:
        group, _, service = case.registered.rpartition("@@")
        load.state(service, case.instances, group=group or "DEFAULT_GROUP")
    pilot = pilots(gateway.address)
    expected = sorted(case.entry.replace(".N.", f".{namespace}.") for case in CASES)
    found: list[str] = []
    addresses: list[str] = []

    def is_there() -> bool:
        last = [] if pilot.last is None else [entry_of(one) for one in pilot.last.resources.values()]
        entries = [entry for entry in last if entry is not None]
        found[:] = sorted(map(summary, entries))
        addresses[:] = [one for entry in entries for one in entry.addresses]
        return found == expected

    with suppress(AssertionError):
        wait_for(is_there, timeout_s=30, what="the entries")
    assert found == expected
    assert len(addresses) == len(set(addresses)) == WITHOUT_HTTP


def test_a_service_keeps_its_host_from_one_that_comes_later(
    processes: Processes, load: Load, namespace: str, pilots: Callable[..., Pilot]
) -> None:
    """Names equal in lower case, and groups that come out alike: the later ones carry a hash."""
    gateway = processes.start_all()[2]
    load.state("Stock", [make("10.1.0.1")])
    load.state("bill", [make("10.1.0.2")])
    pilot = pilots(gateway.address)
    hosts: dict[str, str] = {}

    def has(*addresses: str) -> bool:
        entries = [] if pilot.last is None else [entry_of(one) for one in pilot.last.resources.values()]
        hosts.clear()
        hosts.update({one.endpoints[0].address: one.hosts[0] for one in entries if one is not None})
        return hosts.keys() == set(addresses)

    first = ("10.1.0.1", "10.1.0.2")
    wait_for(lambda: has(*first), timeout_s=30, what="the first ones")
    kept = dict(hosts)
    assert set(kept.values()) == {f"{name}.default-group.{namespace}.nacos" for name in ("stock", "bill")}
    load.state("stock", [make("10.1.0.3")])
    load.state("bill", [make("10.1.0.4")], group="DEFAULT-GROUP")
    wait_for(lambda: has(*first, "10.1.0.3", "10.1.0.4"), timeout_s=30, what="the later ones")
    assert {address: hosts[address] for address in first} == kept
    for address, name in (("10.1.0.3", "stock"), ("10.1.0.4", "bill")):
        assert re.fullmatch(rf"{name}-[0-9a-f]{{8}}\.default-group\.{namespace}\.nacos", hosts[address])
