"""Ports and protocols of a ServiceEntry: votes, what Istio knows, what frameworks say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from consumers.materializer.fold import Outcome
from consumers.rule_settings import ISTIO_PROTOCOLS
from consumers.settings import ConversionSettings
from producers.listener.diff import state
from producers.nacos.service_info import parse_service_info
from schemas.events import ServiceKey
from tests.unit.conversions import Log, convert, make, seen

if TYPE_CHECKING:
    from schemas.events import Instance
    from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry


def many(count: int, first: int = 1, **changes: Any) -> list[Instance]:
    """Instances of one kind."""
    return [make(f"10.1.{n // 250}.{n % 250}", **changes) for n in range(first, first + count)]


def ports(entry: ServiceEntry) -> list[tuple[str, int, str]]:
    """The ports of an entry."""
    return [(port.name, port.number, port.protocol) for port in entry.ports]


@pytest.mark.parametrize(
    "odd",
    [
        {"metadata": {"protocol": "tcp", "service-port": "1"}},
        {"metadata": {"protocol": "grpc"}, "port": 9},
        {"metadata": {"protocol": "tcp", "service-port": "1"}, "enabled": False},
        {"metadata": {"gRPC_port": "9090"}},
        {"metadata": {"secure": "true"}},
    ],
    ids=str,
)
def test_one_of_a_thousand_does_not_rule_a_service(odd: dict[str, Any]) -> None:
    """Neither by its metadata nor by its port, enabled or not: each instance that Pilots get has one vote."""
    assert ports(convert([*many(999), make("10.9.9.9", **odd)])) == [("http", 8080, "HTTP")]


def test_silence_is_a_vote_too() -> None:
    """For the default protocol, and for the instance's own port."""
    named = {"protocol": "grpc", "service-port": "80"}
    assert ports(convert([*many(3), *many(2, 100, metadata=named)])) == [("http", 8080, "HTTP")]
    assert ports(convert([*many(2), *many(3, 100, metadata=named)])) == [("grpc", 80, "GRPC")]


def test_of_equally_many_votes_the_smallest_wins() -> None:
    """In any order of instances."""
    one, other = (
        many(2, port=9000, metadata={"protocol": "tcp"}),
        many(2, 100, port=80, metadata={"protocol": "grpc"}),
    )
    assert ports(convert([*one, *other])) == ports(convert([*other, *one])) == [("grpc", 80, "GRPC")]


def test_who_is_not_listed_does_not_vote_unless_nobody_is() -> None:
    """Disabled, unhealthy or without weight: their word counts where there is no other, so the head stays."""
    silent = many(1)
    named = {"metadata": {"protocol": "grpc"}, "port": 90}
    for out in ({"enabled": False}, {"healthy": False}, {"weight": 0.0}):
        assert ports(convert([*silent, *many(5, 100, **named, **out)])) == [("http", 8080, "HTTP")]
        entry = convert(many(2, 100, **named, **{"enabled": False} | out))
        assert ports(entry) == [("grpc", 90, "GRPC")]
        assert len(entry.endpoints) == 0


@pytest.mark.parametrize("protocol", sorted(ISTIO_PROTOCOLS))
def test_what_istio_knows_is_known(protocol: str) -> None:
    """In any case; the port's name is one that Istio takes."""
    for named in (protocol, protocol.lower(), f" {protocol.title()} "):
        (port,) = convert([make(metadata={"protocol": named})]).ports
        assert (port.protocol, port.name) == (protocol, protocol.lower().replace("_", "-"))


@pytest.mark.parametrize(
    ("named", "protocol"),
    [("thrift", "TCP"), ("rmi", "TCP"), ("中文", "TCP"), ("x" * 5000, "TCP"), ("  ", "HTTP"), ("udp", "UDP"),
     ("mongodb", "MONGO"), ("websocket", "HTTP"), ("wss", "HTTPS"), ("ssl", "TLS"), ("hessian", "HTTP")],
)  # fmt: skip
def test_other_names_of_protocols(named: str, protocol: str) -> None:
    """Unknown ones are TCP: a name is not nothing."""
    assert convert([make(metadata={"protocol": named})]).ports[0].protocol == protocol


def test_an_alias_of_the_settings_goes_before_what_is_known() -> None:
    """In any case of its own; those of the defaults hold besides, and one that leads nowhere is refused."""
    settings = ConversionSettings(protocol_aliases={"Thrift": "http2", "http": "tcp"})
    found = [
        convert([make(metadata={"protocol": one})], settings).ports[0].protocol
        for one in ("THRIFT", "http", "tri")
    ]
    assert found == ["HTTP2", "TCP", "GRPC"]
    with pytest.raises(ValidationError, match="GPRC"):
        ConversionSettings(protocol_aliases={"odd": "GPRC"})


DUBBO = '[{"port":20880,"protocol":"dubbo"},{"port":50051,"protocol":"tri"}]'


@pytest.mark.parametrize(
    ("port", "metadata", "expected"),
    [
        (8443, {"secure": "true"}, [("https", 8443, "HTTPS")]),
        (8080, {"secure": "false"}, [("http", 8080, "HTTP")]),
        (8443, {"secure": "true", "protocol": "tls"}, [("tls", 8443, "TLS")]),
        (8080, {"gRPC_port": "9090"}, [("http", 8080, "HTTP"), ("grpc", 9090, "GRPC")]),
        (8080, {"gRPC.port": "9090"}, [("http", 8080, "HTTP"), ("grpc", 9090, "GRPC")]),
        (9090, {"gRPC_port": "9090"}, [("grpc", 9090, "GRPC")]),
        (50051, {"protocol": "grpc", "gRPC_port": "9090"}, [("grpc", 50051, "GRPC"), ("grpc-9090", 9090, "GRPC")]),
        (20880, {"dubbo.endpoints": DUBBO}, [("tcp", 20880, "TCP"), ("grpc", 50051, "GRPC")]),
        (50051, {"dubbo.endpoints": DUBBO}, [("grpc", 50051, "GRPC"), ("tcp", 20880, "TCP")]),
        (8080, {"dubbo.endpoints": DUBBO, "gRPC_port": "20880"},
         [("http", 8080, "HTTP"), ("grpc", 50051, "GRPC"), ("tcp", 20880, "TCP")]),
        (20880, {"dubbo.metadata-service.url-params": '{"dubbo":"2.0.2","port":"20880","protocol":"dubbo"}'},
         [("tcp", 20880, "TCP")]),
        (8080, {"dubbo.metadata-service.url-params": '{"dubbo":{"version":"1.0.0","port":"20881"}}'},
         [("http", 8080, "HTTP"), ("tcp", 20881, "TCP")]),
        (20880, {"dubbo.endpoints": '[{"port":20881,"protocol":"dubbo"},{"port":20882,"protocol":"rmi"}]',
                 "protocol": "dubbo"},
         [("tcp", 20880, "TCP"), ("tcp-20881", 20881, "TCP"), ("tcp-20882", 20882, "TCP")]),
        (20880, {"protocol": "dubbo", "side": "provider", "category": "providers"}, [("tcp", 20880, "TCP")]),
        (50051, {"protocol": "tri"}, [("grpc", 50051, "GRPC")]),
        (8080, {"protocol": "rest"}, [("http", 8080, "HTTP")]),
        (8080, {"gRPC_port": "80", "service-port": "80"}, [("http", 80, "HTTP")]),
    ],
)  # fmt: skip
def test_what_frameworks_say(port: int, metadata: dict[str, str], expected: list[tuple[str, int, str]]) -> None:
    """Spring Cloud, grpc-spring, Dubbo by application and by interface; numbers and names of ports are unique."""
    assert ports(convert([make(port=port, metadata=metadata)])) == expected


def test_each_endpoint_maps_each_port_to_its_own() -> None:
    """The entry has the number that most have; an endpoint without a port that most have lacks it."""
    rows = [
        ("10.0.0.1", 8080, "9090"),
        ("10.0.0.2", 8081, "9091"),
        ("10.0.0.3", 8080, "9090"),
        ("10.0.0.4", 8080, ""),
    ]
    entry = convert([make(ip, port, metadata={"gRPC_port": grpc} if grpc else {}) for ip, port, grpc in rows])
    assert ports(entry) == [("http", 8080, "HTTP"), ("grpc", 9090, "GRPC")]
    assert {one.address: dict(one.ports) for one in entry.endpoints} == {
        "10.0.0.1": {"http": 8080, "grpc": 9090}, "10.0.0.2": {"http": 8081, "grpc": 9091},
        "10.0.0.3": {"http": 8080, "grpc": 9090}, "10.0.0.4": {"http": 8080},
    }  # fmt: skip


def test_a_port_that_half_of_the_endpoints_have_is_none_of_the_services() -> None:
    """It takes more than half; endpoints name ports of the entry only, which istiod demands."""
    entry = convert([*many(2), *many(2, 100, metadata={"gRPC_port": "9090"})])
    assert ports(entry) == [("http", 8080, "HTTP")]
    assert all(dict(one.ports) == {"http": 8080} for one in entry.endpoints)


def test_a_change_of_the_majority_renames_ports_in_every_endpoint() -> None:
    """A later event gives what a fold of everything gives."""
    log, key = Log(), ServiceKey("DEFAULT_GROUP", "svc")
    log.keyframe({key: many(3)})
    grown = [*many(3), *many(4, 100, metadata={"protocol": "tri", "gRPC_port": "9090"})]
    log.add(state(key, seen(*grown))[0])
    (entry,) = log.entries().values()
    assert entry == convert(grown)
    assert ports(entry) == [("grpc", 8080, "GRPC"), ("grpc-9090", 9090, "GRPC")]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "1.5", '"x"', "[1]", "[null]", "[" * 4000, '{"a":' * 800, "x" * 5000,
     '{"port":{"port":{}}}', '{"a":{"port":null}}', '[{"port":90}]', '[{"port":90,"protocol":7}]',
     '[{"port":90,"protocol":""}]', json.dumps([{"port": 90, "protocol": "tri", "pad": "x" * 5000}])]
    + [f'[{{"port":{port},"protocol":"tri"}}]' for port in
       ("0", "65536", "-1", "true", "1e400", "9.5", '"x"', "9" * 3000, "[" * 1500 + "]" * 1500)],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_json_that_says_nothing_costs_itself_only(text: str) -> None:
    """Whatever stands in a framework's metadata, the instance is listed with its own port."""
    for key in ("dubbo.endpoints", "dubbo.metadata-service.url-params", "gRPC_port"):
        entry = convert([make(metadata={key: text})])
        assert ports(entry) == [("http", 8080, "HTTP")]
        assert len(entry.endpoints) == 1


def test_of_ports_without_end_a_few_are_read() -> None:
    """Eight beside its own."""
    endpoints = json.dumps([{"port": port, "protocol": "tri"} for port in range(1, 100)])
    assert len(convert([make(metadata={"dubbo.endpoints": endpoints})]).ports) == 9


CONSUMERS = "consumers:com.example.Orders:1.0.0:"
HOST = {"ip": "10.0.0.1", "port": 0, "clusterName": "DEFAULT", "metadata": {"side": "consumer"}}


@pytest.mark.parametrize("category", ["consumers", "routers", "configurators"])
def test_consumers_at_port_0_are_facts_without_endpoint_or_alarm(category: str) -> None:
    """Dubbo registers who consumes an interface, and by which rules: facts, and nothing is set aside."""
    name = CONSUMERS.replace("consumers", category)
    hosts = parse_service_info({"name": name, "groupName": "DEFAULT_GROUP", "hosts": [HOST]}).hosts
    assert (len(hosts.instances), hosts.bad) == (1, ())
    log, key = Log(), ServiceKey("DEFAULT_GROUP", name)
    log.keyframe({key: [*hosts.instances]})
    log.add(state(key, seen(*hosts.instances, make("10.0.0.2", 0)))[0])
    assert (log.outcome, log.fold.faults) == (Outcome.APPLIED, [])
    assert log.entries() == {}


@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("orders", 0),
        ("providers:com.example.Orders:1.0.0:", 0),
        (CONSUMERS, -1),
        (CONSUMERS, 65536),
        (CONSUMERS, None),
    ],
)
def test_another_bad_port_is_still_told_of(name: str, port: object) -> None:
    """Port 0 of consumers only: elsewhere somebody means to serve there."""
    hosts = parse_service_info(
        {"name": name, "groupName": "DEFAULT_GROUP", "hosts": [HOST | {"port": port}]}
    ).hosts
    assert (hosts.instances, [bad.reason for bad in hosts.bad]) == ((), ["bad_port"])
