"""`conversion.rules`: what they match, what they set, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from consumers.materializer.conversion import converter_name
from consumers.settings import ConversionSettings
from producers.listener.diff import state
from schemas.events import ServiceKey
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from tests.unit.conversions import UNGUARDED, Log, convert, make, seen

SVC = {"service": "svc"}


def ruled(*rules: dict[str, Any]) -> ConversionSettings:
    """Settings with these rules."""
    return ConversionSettings.model_validate({"rules": rules})


def rule(**wanted: Any) -> dict[str, Any]:
    """A rule for the service of these tests."""
    return {"match": SVC, "set": wanted}


def test_a_rule_sets_the_entry() -> None:
    """Host, ports, addresses, resolution, location, exportTo, subjectAltNames."""
    settings = ruled(
        rule(
            host="orders.example", addresses=["240.9.0.1", "240.9.1.0/24"], resolution="dns", location="external",
            ports=[{"number": 80, "protocol": "http"}, {"number": 9090, "protocol": "grpc", "name": "grpc"}],
            export_to=["team-a", "."], subject_alt_names=["spiffe://x/y"],
        )
    )  # fmt: skip
    entry = convert([make(metadata={"gRPC_port": "9999"}), make("10.0.0.2", 8081)], settings)
    assert list(entry.hosts) == ["orders.example"]
    assert list(entry.addresses) == ["240.9.0.1"], "networks are for STATIC only"
    assert [(p.name, p.number, p.protocol) for p in entry.ports] == [("http", 80, "HTTP"), ("grpc", 9090, "GRPC")]
    assert (entry.location, entry.resolution) == (ServiceEntry.MESH_EXTERNAL, ServiceEntry.DNS)
    assert (list(entry.export_to), list(entry.subject_alt_names)) == (["team-a", "."], ["spiffe://x/y"])
    assert sorted(sorted(one.ports.items()) for one in entry.endpoints) == [
        [("grpc", 9999), ("http", 8080)], [("http", 8081)],
    ]  # fmt: skip


def test_a_rule_sets_endpoints() -> None:
    """Labels, mTLS, account, weight: of all instances, or of those that match."""
    settings = ruled(
        rule(labels={"team": "a", "tier": "x"}, tls_mode="istio"),
        {"match": SVC | {"metadata": {"version": "v2*"}},
         "set": {"labels": {"tier": "y"}, "service_account": "canary", "weight_scale": 0.5}},
    )  # fmt: skip
    entry = convert([make(metadata={"version": "v1"}), make("10.0.0.2", metadata={"version": "v2.1"})], settings)
    plain, canary = sorted(entry.endpoints, key=lambda one: one.address)
    assert (plain.labels["team"], plain.labels["tier"], plain.service_account, plain.weight) == ("a", "x", "", 100)
    assert (canary.labels["tier"], canary.service_account, canary.weight) == ("y", "canary", 50)
    assert {one.labels["security.istio.io/tlsMode"] for one in entry.endpoints} == {"istio"}


def test_an_instances_hash_is_of_what_nacos_says() -> None:
    """A delta amounts to what the listener counted, whatever rules make of the instance."""
    log, key = Log(ruled(rule(labels={"team": "a"}, weight_scale=3.0, tls_mode="istio"))), ServiceKey("g", "svc")
    log.keyframe({key: [make()]})
    body, stated = state(key, seen(make(weight=2.0), make("10.0.0.2")))
    log.add(body)
    service = log.fold.state.datacenters[log.datacenter].namespaces[log.events[0].namespace].services[key]
    assert service.digest == stated.digest
    assert log.fold.faults == []


def test_addresses_of_a_rule_are_all_that_the_service_has() -> None:
    """None is given out of the range beside them; an empty list means that it has none."""
    assert len(convert([make()], ruled(rule(protocol="tcp"))).addresses) == 1
    for wanted in (["240.9.0.1"], []):
        assert list(convert([make()], ruled(rule(protocol="tcp", addresses=wanted))).addresses) == wanted


def test_later_rules_win() -> None:
    """First to last; what a later one does not name stays."""
    settings = ruled(
        {"set": {"protocol": "tcp", "location": "external"}},
        rule(protocol="grpc"),
        {"match": {"service": "other"}, "set": {"protocol": "redis"}},
    )
    entry = convert([make()], settings)
    assert (entry.ports[0].protocol, entry.location) == ("GRPC", ServiceEntry.MESH_EXTERNAL)


@pytest.mark.parametrize(
    ("match", "does"),
    [
        ({}, True), ({"service": "s*"}, True), ({"service": "S*"}, False), ({"group": "DEFAULT_*"}, True),
        ({"group": "other"}, False), ({"namespace": "pub?ic"}, True), ({"namespace": "dev"}, False),
        ({"datacenter": "dc1"}, True), ({"datacenter": "dc2"}, False), ({"metadata": {"a": "*"}}, True),
        ({"metadata": {"a": "1", "b": "*"}}, False), ({"metadata": {"a": "2"}}, False),
    ],
)  # fmt: skip
def test_what_a_rule_matches(match: dict[str, Any], *, does: bool) -> None:
    """Patterns as those of files, each of them."""
    entry = convert([make(metadata={"a": "1"})], ruled({"match": match, "set": {"labels": {"x": "y"}}}))
    assert ("x" in entry.endpoints[0].labels) is does


def test_a_rule_drops_instances_or_the_service() -> None:
    """Instances are set aside with that reason; a service has no entry, and its host is free."""
    log = Log(ruled({"match": {"metadata": {"env": "dev"}}, "set": {"drop": True}}))
    log.keyframe({ServiceKey("g", "svc"): [make(metadata={"env": "dev"}), make("10.0.0.2")]})
    (entry,) = log.entries().values()
    assert [one.address for one in entry.endpoints] == ["10.0.0.2"]
    log = Log(ruled({"match": {"service": "internal-*"}, "set": {"drop": True}}))
    log.keyframe({ServiceKey("g", "internal-x"): [make()], ServiceKey("g", "svc"): [make()]})
    assert list(log.entries()) == ["public/svc.g.public"]


def test_a_later_rule_takes_a_drop_back() -> None:
    """All but one: the list is read first to last."""
    log = Log(ruled({"match": {"group": "old"}, "set": {"drop": True}}, rule(drop=False)))
    log.keyframe({ServiceKey("old", "x"): [make()], ServiceKey("old", "svc"): [make()]})
    assert list(log.entries()) == ["public/svc.old.public"]


@pytest.mark.parametrize(
    ("wanted", "resolution", "listed"),
    [
        ({"resolution": "static"}, "STATIC", ["10.0.0.1"]),
        ({"resolution": "dns"}, "DNS", ["10.0.0.1", "a.example", "b.example"]),
        ({"resolution": "mixed"}, "DNS", ["10.0.0.1", "a.example", "b.example"]),
        ({"resolution": "mixed", "host_names": "drop"}, "STATIC", ["10.0.0.1"]),
        ({"host_names": "drop"}, "STATIC", ["10.0.0.1"]),
        ({}, "DNS", ["a.example", "b.example"]),
    ],
)  # fmt: skip
def test_a_rule_decides_about_host_names(wanted: dict[str, Any], resolution: str, listed: list[str]) -> None:
    """Mixed: both kinds in one entry, resolved by DNS."""
    settings = ruled(rule(**wanted)) if wanted else ConversionSettings()
    entry = convert([make("a.example"), make("b.example"), make()], settings)
    assert ServiceEntry.Resolution.Name(entry.resolution) == resolution
    assert sorted(one.address for one in entry.endpoints) == listed


def test_a_protocol_by_metadata_is_a_vote() -> None:
    """Of these instances; without metadata it is the service's."""
    settings = ruled({"match": {"metadata": {"v": "2"}}, "set": {"protocol": "grpc"}})
    ones = [make(f"10.0.0.{n}", metadata={"v": "2" if n < 3 else "1"}) for n in range(1, 6)]
    assert convert(ones, settings).ports[0].protocol == "HTTP"
    assert convert(ones[:3], settings).ports[0].protocol == "GRPC"


def test_two_services_that_a_rule_gives_one_host_do_not_share_it() -> None:
    """Patterns of groups may match several: one has it, the other carries a hash."""
    log = Log(ruled(rule(host="orders.example")))
    log.keyframe({ServiceKey("a", "svc"): [make()], ServiceKey("b", "svc"): [make("10.0.0.2")]})
    hosts = sorted(entry.hosts[0] for entry in log.entries().values())
    assert len(set(hosts)) == 2
    assert "orders.example" in hosts


@pytest.mark.parametrize(
    ("one", "told"),
    [
        ({"set": {}}, "sets nothing"),
        ({"match": {"servic": "x"}, "set": {"drop": True}}, "servic"),
        ({"set": {"ports": []}}, "at least one"),
        ({"set": {"protocol": "thrift"}}, "must be one of"),
        ({"set": {"ports": [{"number": 0, "protocol": "http"}]}}, "greater than or equal to 1"),
        ({"set": {"ports": [{"number": 1, "protocol": "http"}, {"number": 2, "protocol": "http"}]}}, "of its own"),
        ({"set": {"addresses": ["x"]}}, "neither an IP address nor a network"),
        ({"set": {"addresses": ["10.0.0.1/8"]}}, "host bits"),
        ({"set": {"addresses": ["::1%lo"]}}, "on one machine only"),
        ({"set": {"addresses": ["127.0.0.1"]}}, "on one machine only"),
        ({"set": {"addresses": ["::"]}}, "on one machine only"),
        ({"set": {"addresses": ["224.0.0.0/4"]}}, "on one machine only"),
        ({"set": {"resolution": "none"}}, "'static', 'dns'"),
        ({"set": {"export_to": ["*", "a"]}}, "stand alone"),
        ({"set": {"export_to": ["a", "a"]}}, "twice"),
        ({"set": {"export_to": ["A b"]}}, "nor an Istio namespace"),
        ({"set": {"labels": {"a b": "c"}}}, "no label"),
        ({"set": {"labels": {"a": "b c"}}}, "no value"),
        ({"set": {"tls_mode": "mutual"}}, "istio or disabled"),
        ({"set": {"weight_scale": 0}}, "greater than 0"),
        ({"set": {"service_account": "A/b"}}, "service account"),
        ({"match": SVC, "set": {"host": "Orders"}}, "lower-case"),
        ({"match": SVC, "set": {"host": "orders.1"}}, "no number"),
        ({"set": {"host": "orders"}}, "must name one service"),
        ({"match": {"metadata": {"a": "b"}}, "set": {"location": "external"}}, "location: of the whole service"),
        ({"match": {"datacenter": "dc1"}, "set": {"ports": [{"number": 1, "protocol": "tcp"}]}}, "ports: of"),
    ],
)  # fmt: skip
def test_a_rule_that_is_wrong_is_told_of_at_the_start(one: dict[str, Any], told: str) -> None:
    """With its place in the list and the field."""
    with pytest.raises(ValidationError) as error:
        ruled(rule(drop=False), one)
    assert told in str(error.value)
    assert "rules.1" in str(error.value)


def test_rules_are_part_of_the_converters_name() -> None:
    """Other rules, other content: an audit with these rules does not judge what those made."""
    names = {converter_name(one, UNGUARDED) for one in (ruled(), ruled(rule(drop=True)), ruled(rule(drop=False)))}
    assert len(names) == 3


def test_a_services_own_namespace_is_not_named_beside_a_dot() -> None:
    """Istio refuses an entry that is exported to its own namespace twice."""
    settings = ConversionSettings.model_validate({"rules": [{"set": {"export_to": [".", "public", "team-a"]}}]})
    log = Log(settings)
    log.keyframe({ServiceKey("DEFAULT_GROUP", "svc"): [make()]})
    (entry,) = log.entries().values()
    assert list(entry.export_to) == [".", "team-a"]
