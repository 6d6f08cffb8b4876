"""Instances to ServiceEntries: the table of cases."""

from __future__ import annotations

import math
from typing import Any

import pytest

from consumers.materializer.conversion import FIRST_REVISION
from consumers.materializer.conversion.endpoint import MAX_WEIGHT
from consumers.materializer.faults import MAX_TOLD
from consumers.materializer.fold import Outcome
from consumers.settings import ConversionSettings, DatacenterSettings
from producers.listener.diff import state
from schemas.events import ServiceKey
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from tests.unit.conversions import Log, convert, make, seen


def test_a_service_becomes_one_internal_static_entry() -> None:
    """Host, port, location and resolution, as Nacos's own istio module writes them."""
    entry = convert([make()])
    assert list(entry.hosts) == ["svc.default-group.public.nacos"]
    assert [(p.number, p.protocol, p.name) for p in entry.ports] == [(8080, "HTTP", "http")]
    assert (entry.location, entry.resolution) == (ServiceEntry.MESH_INTERNAL, ServiceEntry.STATIC)
    assert dict(entry.endpoints[0].labels) == {"cluster": "DEFAULT"}


@pytest.mark.parametrize(
    ("ports", "number"),
    [([8080], 8080), ([8080, 9090, 9090], 9090), ([9090, 8080], 8080), ([3, 3, 2, 2, 1], 2)],
)
def test_the_port_is_the_most_frequent_one(ports: list[int], number: int) -> None:
    """Ties go to the smallest; every endpoint maps the logical port to its own."""
    entry = convert([make(f"10.0.0.{index + 1}", port) for index, port in enumerate(ports)])
    assert entry.ports[0].number == number
    assert sorted(endpoint.ports["http"] for endpoint in entry.endpoints) == sorted(ports)


def test_metadata_names_port_and_protocol() -> None:
    """A known protocol renames the port in every endpoint, also of instances that say nothing."""
    named = {"protocol": "grpc", "service-port": "80"}
    entry = convert([make(metadata=named), make("10.0.0.3", enabled=False), make("10.0.0.2", metadata=named)])
    assert [(p.number, p.protocol, p.name) for p in entry.ports] == [(80, "GRPC", "grpc")]
    assert [dict(endpoint.ports) for endpoint in entry.endpoints] == [{"grpc": 8080}, {"grpc": 8080}]


@pytest.mark.parametrize(
    ("named", "protocol"),
    [("dubbo", "TCP"), ("rest", "HTTP"), ("tri", "GRPC"), ("GRPC", "GRPC"), ("smtp", "TCP"), ("", "HTTP")],
)
def test_protocols_istio_does_not_know(named: str, protocol: str) -> None:
    """Aliases for what is common, TCP for the rest: of what is named and unknown nothing says that it is HTTP.

    Read as HTTP, as it was before, a proxy waits for requests that a mail or database client never sends.
    """
    assert convert([make(metadata={"protocol": named})]).ports[0].protocol == protocol


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "70000",
        "-1",
        "http",
        "",
        "8" * 5000,
        "٣",
        "00001" + "9" * 5000,
        "0000655359",
        "0" * 5000 + "80",
    ],
)
def test_a_bad_logical_port_is_not_read(text: str) -> None:
    """Metadata that names no port leaves the most frequent one."""
    assert convert([make(metadata={"service-port": text})]).ports[0].number == 8080


@pytest.mark.parametrize(
    ("weight", "encoded"),
    [(1.0, 100), (0.333, 33), (0.005, 1), (0.0001, 1), (2.5, 250), (100.0, 10_000), (1e300, 1_000_000)],
)
def test_weights_are_hundredths_and_at_least_one(weight: float, encoded: int) -> None:
    """Pilot would read 0 as 1: a fraction that rounds to 0 still gets its little share."""
    assert convert([make(weight=weight)]).endpoints[0].weight == encoded


def test_weight_zero_gets_no_traffic() -> None:
    """The instance leaves the list; the service stays."""
    entry = convert([make(weight=0.0), make("10.0.0.2")])
    assert [endpoint.address for endpoint in entry.endpoints] == ["10.0.0.2"]
    assert len(convert([make(weight=0.0)]).endpoints) == 0


def test_disabled_and_unhealthy_instances_are_not_listed() -> None:
    """Only those that are enabled and healthy."""
    entry = convert([make(), make("10.0.0.2", enabled=False), make("10.0.0.3", healthy=False)])
    assert [endpoint.address for endpoint in entry.endpoints] == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("healthy", "threshold", "listed"),
    [(1, 0.0, 1), (1, 0.5, 4), (2, 0.5, 4), (3, 0.5, 3), (0, 0.0, 4), (4, 0.9, 4)],
)
def test_below_the_protect_threshold_all_enabled_ones_are_listed(
    healthy: int, threshold: float, listed: int
) -> None:
    """As Nacos answers its own clients: at or below the threshold, and when none is healthy."""
    instances = [make(f"10.0.0.{index + 1}", healthy=index < healthy) for index in range(4)]
    instances.append(make("10.0.0.9", enabled=False))
    assert len(convert(instances, threshold=threshold).endpoints) == listed


@pytest.mark.parametrize("text", ["80", "080", "0000000080"[5:], "000080"])
def test_zeros_before_a_logical_port_are_read_over(text: str) -> None:
    """As the first revision did."""
    assert convert([make(metadata={"service-port": text})]).ports[0].number == 80


def test_the_greatest_weight_that_a_double_holds_is_the_greatest_weight() -> None:
    """Seen to end the materializer for good: Nacos checks weights on its HTTP path only, not over gRPC."""
    entry = convert([make(weight=1.7976931348623157e308), make("10.0.0.2", weight=1e7)])
    assert [endpoint.weight for endpoint in entry.endpoints] == [MAX_WEIGHT, MAX_WEIGHT]


@pytest.mark.parametrize(
    "bad",
    [{"weight": math.nan}, {"weight": math.inf}, {"weight": -math.inf}, {"weight": -1.0},
     {"port": 0}, {"port": -1}, {"port": 65536}, {"port": 2**31 - 1}, {"port": -(2**31)}],
    ids=str,
)  # fmt: skip
def test_an_instance_that_no_endpoint_can_be_made_of_is_not_listed(bad: dict[str, Any]) -> None:
    """It is set aside with its field, once; its port does not count, and all else is listed."""
    log, key = Log(), ServiceKey("DEFAULT_GROUP", "svc")
    instances = [make(), make("10.0.0.2")._replace(**bad), make("10.0.0.3")._replace(**bad)]
    log.keyframe({key: instances})
    assert log.fold.faults == []
    (entry,) = log.entries().values()
    assert ([one.address for one in entry.endpoints], entry.ports[0].number) == (["10.0.0.1"], 8080)
    log.add(state(key, seen(make("10.0.0.9")._replace(**bad), *instances))[0])
    (fault,) = log.fold.faults
    assert log.outcome is Outcome.BAD_INSTANCE
    (field,) = bad
    assert str(fault).startswith("instance 10.0.0.9:")
    assert f"of DEFAULT_GROUP/svc, {field}: " in str(fault)
    log.add(state(key, seen(*(one for one in instances if one.ip != "10.0.0.1")))[0])
    assert log.entries() == {}, "nothing tells which port it would have"
    assert log.snapshot().manifest.suspect == ()


def test_instances_without_end_that_can_not_be_used_are_told_of_in_a_few_records() -> None:
    """Ten for one event: the first nine, and how many more."""
    log, key = Log(), ServiceKey("DEFAULT_GROUP", "svc")
    log.keyframe({key: []})
    log.add(state(key, seen(*(make(f"10.0.{n // 250}.{n % 250}", weight=math.nan) for n in range(3000))))[0])
    assert len(log.fold.faults) == MAX_TOLD
    assert "2991 more" in str(log.fold.faults[-1])


def test_host_names_as_addresses_make_the_service_dns() -> None:
    """STATIC takes IP addresses only."""
    entry = convert([make("db.example.com"), make("db2.example.com")])
    assert entry.resolution == ServiceEntry.DNS
    assert len(entry.endpoints) == 2


@pytest.mark.parametrize(
    "address", ["300.1.1.1", "1.2.3", "a b", "under_score.example", "unix:///x", "-x.y", "x" * 64]
)
def test_an_address_that_istiod_rejects_is_not_listed(address: str) -> None:
    """It would take the whole entry with it."""
    entry = convert([make(address), make("10.0.0.2")])
    assert [endpoint.address for endpoint in entry.endpoints] == ["10.0.0.2"]
    assert entry.resolution == ServiceEntry.STATIC


def test_an_ipv6_address_is_an_address() -> None:
    """IPv6 is STATIC as well."""
    assert convert([make("fd00::1")]).resolution == ServiceEntry.STATIC


def test_labels_are_what_kubernetes_accepts() -> None:
    """Others are dropped, never the instance; the cluster is a label."""
    metadata = {
        "version": "v1", "app.kubernetes.io/name": "x", "empty": "", "_bad": "x", "bad key": "x", "bad": "a b",
        "long": "x" * 64, "x" * 64: "x", "中文": "x", "value": "中文", "UP/x": "y", "edge": "-x", "new\nline": "x",
        "line": "x\n",
    }  # fmt: skip
    entry = convert([make(metadata=metadata, cluster="c1")])
    assert dict(entry.endpoints[0].labels) == {
        "version": "v1", "app.kubernetes.io/name": "x", "empty": "", "cluster": "c1",
    }  # fmt: skip


def test_locality_and_network_from_metadata_or_the_datacenters_settings() -> None:
    """What an instance says of itself wins over where it was seen."""
    settings = ConversionSettings(datacenters={"dc1": DatacenterSettings(locality="eu/1", network="n1")})
    here = convert([make()], settings).endpoints[0]
    assert (here.locality, here.network) == ("eu/1", "n1")
    there = convert([make(metadata={"region": "us", "zone": "a", "network": "n2"})], settings).endpoints[0]
    assert (there.locality, there.network) == ("us/a", "n2")


def test_a_service_without_instances_has_no_entry() -> None:
    """Nothing says which port it would have."""
    log = Log()
    log.keyframe({ServiceKey("g", "empty"): [], ServiceKey("g", "full"): [make()]})
    assert list(log.entries()) == ["public/full.g.public"]


def test_of_two_names_that_come_out_alike_the_valid_one_keeps_it() -> None:
    """A newcomer with an odd name can't take the host of a service that always had it."""
    log = Log()
    plain, odd = ServiceKey("g", "a-b"), ServiceKey("g", "a_b")
    log.keyframe({odd: [make("10.0.0.2")], plain: [make("10.0.0.1")]})
    entries = log.entries()
    assert entries["public/a-b.g.public"].endpoints[0].address == "10.0.0.1"
    (other,) = entries.keys() - {"public/a-b.g.public"}
    assert other.startswith("public/a-b-")
    assert entries[other].hosts[0] == f"{other.removeprefix('public/')}.nacos"


def test_of_two_odd_names_that_come_out_alike_one_keeps_the_plain_name() -> None:
    """Stated in one keyframe they came together: the one that sorts first has it."""
    log = Log()
    log.keyframe({ServiceKey("g", "a_b"): [make("10.0.0.2")], ServiceKey("g", "a:b"): [make("10.0.0.1")]})
    entries = log.entries()
    assert entries.pop("public/a-b.g.public").endpoints[0].address == "10.0.0.1"
    (other,) = entries
    assert other.startswith("public/a-b-")


def test_the_bytes_of_a_golden_entry() -> None:
    """To the byte, as of revision 1: another output needs another revision."""
    log = Log(revision=FIRST_REVISION)
    instances = [make(metadata={"version": "v1"}), make("10.0.0.2", 8081, weight=0.5, metadata={"zone": "a"})]
    log.keyframe({ServiceKey("DEFAULT_GROUP", "svc"): instances})
    (record,) = log.snapshot().records.values()
    assert record is not None
    assert record.version == "32a3d5f2cc243c40aed297953adfd908"
    assert record.body().hex() == (
        "0a1e7376632e44454641554c542d47524f55502e7075626c69632e6e61636f731a0f08903f1204485454501a046874747020"
        "01280132360a0831302e302e302e3212090a046874747010913f1a120a07636c7573746572120744454641554c541a090a04"
        "7a6f6e651201613032323a0a0831302e302e302e3112090a046874747010903f1a120a07636c757374657212074445464155"
        "4c541a0d0a0776657273696f6e120276313064"
    )
