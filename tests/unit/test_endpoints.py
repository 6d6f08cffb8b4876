"""Endpoints of a ServiceEntry: addresses that Istio takes, each once, and weights that Envoy can add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from consumers.materializer.conversion.instance_address import Unlisted
from consumers.materializer.conversion.weights import MAX_SUM
from consumers.materializer.fold import Fold
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from producers.listener.diff import state
from schemas.events import Instance, ServiceKey
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, convert, make, seen

if TYPE_CHECKING:
    from schemas.events import RegistryEvent

KEY = ServiceKey("DEFAULT_GROUP", "svc")
LOCAL = ConversionSettings(allow_local_addresses=True)


def addresses(entry: ServiceEntry) -> list[str]:
    """The addresses of an entry."""
    return sorted(endpoint.address for endpoint in entry.endpoints)


def set_aside(log: Log) -> dict[str, list[str]]:
    """What the debug page shows."""
    view = NamespaceView(PUBLIC, log.settings)
    view.update_all(log.fold.state, Occasion("test"))
    return view.set_aside.describe()


REFUSED = {
    "zone": (
        "fe80::1%eth0", "2001:db8::1%1", "[fe80::1%eth0]",
    ),
    "numeric_name": (
        "host.1", "300.1.1.1", "1.2.3", "1.2.3.4.", "2130706433", "0x7f.1", "127.1", "0x7f000001",
        "0177.0.0.1", "host.0x7F",
    ),
    "no_address": (
        "a b", "under_score.example", "-x.y", "x" * 64, "[db.example]", "[::1", "a..b", ".", "unix:///x",
        "1.2.3.4:80", "x." * 200, "例子.example",
    ),
    "local_address": (
        "127.0.0.1", "127.255.255.254", "0.0.0.0",  # noqa: S104
        "0.1.2.3", "169.254.169.254", "224.0.0.1",
        "255.255.255.255", "::1", "[::1]", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:7f00:1",
        "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:a9fe:a9fe", "localhost", "LOCALHOST.",
        "x.localhost", "ip6-loopback", "100.100.100.200", "168.63.129.16", "fd00:ec2::254",
        "metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "fd20:ce::254",
        "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "why"),
    [(address, why) for why, refused in REFUSED.items() for address in refused],
)
def test_an_address_that_is_not_listed_costs_itself_and_says_why(address: str, why: str) -> None:
    """istiod would refuse the whole entry, or sidecars would call what only they can reach."""
    log = Log()
    log.keyframe({KEY: [make(address), make("10.0.0.2")]})
    (entry,) = log.entries().values()
    assert (addresses(entry), entry.resolution) == (["10.0.0.2"], ServiceEntry.STATIC)
    assert set_aside(log) == {"DEFAULT_GROUP@@svc": [f"{address}:8080 (DEFAULT) in dc1: {why}"]}
    assert log.fold.faults == []
    allowed = [one for one in addresses(convert([make(address), make("10.0.0.2")], LOCAL)) if one != "10.0.0.2"]
    assert bool(allowed) is (
        why == "local_address" and not address.lower().startswith(("localhost", "x.local", "ip6", "metadata"))
    )


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("[2001:db8::1]", "2001:db8::1"), ("2001:DB8:0:0::1", "2001:db8::1"), ("::ffff:10.1.2.3", "10.1.2.3"),
        ("223.255.255.1", "223.255.255.1"), ("1.0.0.1", "1.0.0.1"), ("128.0.0.1", "128.0.0.1"),
        ("240.1.2.3", "240.1.2.3"),
        ("169.253.0.1", "169.253.0.1"), ("100.100.100.201", "100.100.100.201"), ("fd00::1", "fd00::1"),
    ],
)  # fmt: skip
def test_an_ip_address_is_understood_in_every_spelling(address: str, listed: str) -> None:
    """And is written in one."""
    entry = convert([make(address)])
    assert (addresses(entry), entry.resolution) == ([listed], ServiceEntry.STATIC)


@pytest.mark.parametrize(
    "address", ["db.example.com", "db.example.com.", "DB-1.Example", "x", "3com.example", "a1"]
)
def test_a_host_name_is_listed_as_it_is(address: str) -> None:
    """With the dot that makes it absolute."""
    entry = convert([make(address)])
    assert (addresses(entry), entry.resolution) == ([address], ServiceEntry.DNS)


@pytest.mark.parametrize(
    ("names", "ips", "resolution"), [(1, 3, "STATIC"), (3, 1, "DNS"), (2, 2, "STATIC"), (3, 0, "DNS")]
)
def test_most_decide_whether_a_service_is_resolved_by_dns(names: int, ips: int, resolution: str) -> None:
    """The others are set aside, not the service: one host name does not turn a thousand addresses to DNS."""
    log = Log()
    here = [make(f"h{n}.example") for n in range(names)] + [make(f"10.0.0.{n}") for n in range(ips)]
    log.keyframe({KEY: here})
    (entry,) = log.entries().values()
    assert ServiceEntry.Resolution.Name(entry.resolution) == resolution
    listed, others = (names, ips) if resolution == "DNS" else (ips, names)
    assert len(entry.endpoints) == listed
    lines = [line for found in set_aside(log).values() for line in found]
    assert len(lines) == others
    assert all(line.endswith("other_resolution") for line in lines)


def test_without_a_listed_instance_the_others_keep_the_resolution() -> None:
    """The head stays when the last one is disabled."""
    assert convert([make("db.example", enabled=False)]).resolution == ServiceEntry.DNS
    assert convert([make("10.0.0.1", enabled=False)]).resolution == ServiceEntry.STATIC


@pytest.mark.parametrize(
    ("one", "other", "wins"),
    [
        ({"cluster": "a", "healthy": False}, {"cluster": "b"}, "b"),
        ({"cluster": "a"}, {"cluster": "b", "enabled": False}, "a"),
        ({"cluster": "a", "metadata": {"sourceClusterId": "1"}}, {"cluster": "b"}, "b"),
        ({"cluster": "a", "weight": 2.0}, {"cluster": "b", "weight": 2.0}, "a"),
    ],
    ids=str,
)
def test_an_endpoint_that_is_stated_twice_is_one(one: dict[str, Any], other: dict[str, Any], wins: str) -> None:
    """Live outweighs dead, the original a copy; in any order."""
    for here in ([make(**one), make(**other)], [make(**other), make(**one)]):
        (endpoint,) = convert(here).endpoints
        assert endpoint.labels["cluster"] == wins


def test_where_all_enabled_ones_are_given_out_the_live_one_of_a_place_is_listed() -> None:
    """Below the protect threshold a dead twin would be listed as well."""
    here = [make(cluster="a", healthy=False), make(cluster="b"), make("10.0.0.2", healthy=False)]
    entry = convert(here, threshold=0.9)
    assert sorted((one.address, one.labels["cluster"]) for one in entry.endpoints) == [
        ("10.0.0.1", "b"), ("10.0.0.2", "DEFAULT"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "[2001:DB8::1]"), ("db.example", "DB.example."), ("10.0.0.1", "::ffff:10.0.0.1")],
)
def test_two_spellings_of_one_address_are_one_endpoint(one: str, other: str) -> None:
    """Of one cluster even."""
    assert len(convert([make(one), make(other)]).endpoints) == 1
    assert len(convert([make(one), make(other, 8081)]).endpoints) == 2


def in_two(here: list[Instance], there: list[Instance], *, first: str = "dc1") -> ServiceEntry:
    """The entry of a service in two datacenters, that one's events read first."""
    logs = {name: Log(datacenter=name) for name in ("dc1", "dc2")}
    logs["dc1"].keyframe({KEY: here})
    logs["dc2"].keyframe({KEY: there})
    fold = Fold(ConversionSettings(), UNGUARDED)
    order: list[RegistryEvent] = []
    for name in sorted(logs, key=lambda name: name != first):
        order += logs[name].events
    for offset, event in enumerate(order):
        fold.apply(TOPIC, offset, event)
    update = NamespaceView(PUBLIC, ConversionSettings()).update_all(fold.state, Occasion("test"))
    assert update is not None
    (record,) = update.records.values()
    assert record is not None
    assert [part.datacenter for part in record.parts] == ["dc1", "dc2"]
    return ServiceEntry.FromString(record.body())


COPY = {"sourceClusterId": "n1"}


@pytest.mark.parametrize("first", ["dc1", "dc2"])
@pytest.mark.parametrize(
    ("here", "there", "label"),
    [
        (make(metadata={"at": "1"} | COPY), make(metadata={"at": "2"}), "2"),
        (make(metadata={"at": "1"}), make(metadata={"at": "2"} | COPY), "1"),
        (make(metadata={"at": "1"}), make(metadata={"at": "2"}), "1"),
        (make(metadata={"at": "1"}, healthy=False), make(metadata={"at": "2"} | COPY), "2"),
        (make(metadata={"at": "1"}, cluster="x"), make(metadata={"at": "2"}, cluster="y"), "1"),
    ],
)
def test_an_endpoint_of_two_datacenters_is_one(here: Instance, there: Instance, label: str, first: str) -> None:
    """That of its origin, live before dead, else that of the first datacenter by name; whichever is read first."""
    others = [make("10.0.1.1")], [make("10.0.2.1")]
    entry = in_two([here, *others[0]], [there, *others[1]], first=first)
    assert addresses(entry) == ["10.0.0.1", "10.0.1.1", "10.0.2.1"]
    (endpoint,) = [one for one in entry.endpoints if one.address == "10.0.0.1"]
    assert endpoint.labels["at"] == label


def test_a_dead_one_of_one_datacenter_gives_way_to_a_live_one_of_another() -> None:
    """Also where the dead one is given out, as all of its service are dead."""
    entry = in_two([make(healthy=False, metadata={"at": "1"})], [make(metadata={"at": "2"})])
    (endpoint,) = entry.endpoints
    assert endpoint.labels["at"] == "2"


def test_an_endpoint_counts_once_for_the_guard() -> None:
    """A second registration that goes is no loss: at half and less of 20 nothing is held."""
    scope = {"min_size": 10, "max_share": 0.3}
    log = Log(guard=GuardSettings.model_validate({"service": scope, "namespace": scope, "datacenter": scope}))
    twins = [make(f"10.0.0.{n}", cluster=cluster) for n in range(1, 11) for cluster in ("a", "b")]
    log.keyframe({KEY: twins})
    guard = log.fold.state.datacenters[log.datacenter].guard
    log.add(state(KEY, seen(*twins[::2]))[0])
    assert (guard.holds, log.fold.state.datacenters[log.datacenter].namespaces[PUBLIC].services[KEY].count) == (
        {},
        10,
    )
    log.add(state(KEY, seen(*twins[:6:2]))[0])
    (hold,) = [hold for hold in guard.holds.values() if hold.scope == "service"]
    assert hold.peak == 10
    (entry,) = log.entries().values()
    assert len(entry.endpoints) == 10


def test_weights_are_divided_where_their_sum_is_beyond_32_bits() -> None:
    """Envoy refuses a cluster whose weights amount to more; the ratios stay."""
    here = [make(f"10.0.{n // 250}.{n % 250}", weight=10_000.0) for n in range(4300)]
    entry = convert([*here, make("10.1.0.1", weight=2500.0), make("10.1.0.2", weight=0.01)])
    weights = {one.address: one.weight for one in entry.endpoints}
    assert sum(weights.values()) <= MAX_SUM
    assert (weights["10.0.0.1"], weights["10.1.0.1"], weights["10.1.0.2"]) == (500_000, 125_000, 1)
    assert [one.weight for one in convert(here[:4294]).endpoints][:1] == [1_000_000]


def test_weights_are_summed_over_datacenters() -> None:
    """Envoy adds those of all localities up, too."""
    here, there = ([make(f"10.{dc}.{n // 250}.{n % 250}", weight=10_000.0) for n in range(2200)] for dc in (1, 2))
    assert {one.weight for one in in_two(here, there).endpoints} == {500_000}


def test_a_later_weight_counts_as_one_from_the_beginning() -> None:
    """The sum is kept up with each change; a fold of everything gives the same."""
    here = [make(f"10.0.{n // 250}.{n % 250}", weight=10_000.0) for n in range(4300)]
    log = Log()
    log.keyframe({KEY: [*here[:-1], here[-1]._replace(weight=1.0)]})
    for weights in ([1.0] * 6, [10_000.0] * 6):
        changed = [*here[:-6], *(one._replace(weight=w) for one, w in zip(here[-6:], weights, strict=True))]
        log.add(state(KEY, seen(*changed))[0])
        (entry,) = log.entries().values()
        assert entry == convert(changed)


def test_the_tls_mode_is_a_label_as_any_other() -> None:
    """istiod reads `security.istio.io/tlsMode` of an endpoint's labels; without it workloads get plain text."""
    entry = convert([make(metadata={"security.istio.io/tlsMode": "istio"})])
    assert entry.endpoints[0].labels["security.istio.io/tlsMode"] == "istio"


def test_what_is_set_aside_is_counted_and_forgotten_with_its_service() -> None:
    """For the metric, by reason; the page shows the first of many."""
    log = Log()
    view = NamespaceView(PUBLIC, log.settings)
    log.keyframe({KEY: [make(f"127.0.{n}.1") for n in range(30)] + [make("h.example"), make(), make("10.0.0.2")]})
    view.update_all(log.fold.state, Occasion("test"))
    assert view.set_aside.counts[Unlisted.LOCAL] == 30
    assert view.set_aside.counts[Unlisted.RESOLUTION] == 1
    (lines,) = view.set_aside.describe().values()
    assert (len(lines), lines[-1]) == (21, "11 more")
    log.keyframe({})
    view.update_all(log.fold.state, Occasion("test"))
    assert (view.set_aside.counts.total(), view.set_aside.describe()) == (0, {})
