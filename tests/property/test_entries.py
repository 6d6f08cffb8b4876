"""Whatever instances say, an entry is one that Istio and Envoy take."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.conversion.endpoint import is_label
from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.view import NamespaceView, Occasion
from consumers.rule_settings import ISTIO_PROTOCOLS
from consumers.settings import ConversionSettings
from schemas.events import Instance, ServiceKey
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from tests.property.hostile import NUMBERS, SETTINGS, json_values
from tests.property.test_fold import CONVERSION, Publisher, contents, contents_of
from tests.unit.conversions import PUBLIC, UNGUARDED

KEY = ServiceKey("g", "a")
_numbers = st.one_of(st.sampled_from(["80", "8080", "9090", "0", "65535", "65536"]), st.sampled_from(NUMBERS))
_dubbo = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "port": st.one_of(st.integers(-1, 65537), st.integers(20880, 20884), st.text(max_size=5), st.none()),
            "protocol": st.one_of(st.sampled_from(["dubbo", "tri", "rest", "redis", "x", ""]), st.integers()),
        },
    ),
    max_size=12,
).map(json.dumps)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.one_of(st.sampled_from(["grpc", "http_proxy", "thrift", "tri", " ", "REDIS"]), st.text()),
        "service-port": _numbers,
        "secure": st.sampled_from(["true", "false", "TRUE"]),
        "gRPC_port": _numbers,
        "gRPC.port": _numbers,
        "dubbo.endpoints": st.one_of(_dubbo, json_values),
        "dubbo.metadata-service.url-params": st.one_of(_dubbo, json_values),
        "region": st.text(max_size=3),
        "version": st.text(max_size=70),
        "sourceClusterId": st.sampled_from(["1", ""]),
    },
)
addresses = st.one_of(
    st.sampled_from(
        ["10.0.0.1", "10.0.0.2", "10.0.0.3", "db.example.com", "db.example.com.", "DB.example.com", "a.1",
         "[2001:db8::1]", "2001:db8::1", "2001:DB8:0::1", "127.0.0.1", "0x7f.1", "127.1", "2130706433",
         "localhost", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "0.0.0.1", "224.0.0.1", "169.254.169.254", "::1",
         "1.2.3.4.", "fe80::1%e0", "::"]
    ),
    st.ip_addresses().map(str),
    st.text(max_size=20),
)  # fmt: skip
instances = st.builds(
    Instance,
    ip=addresses,
    port=st.sampled_from([80, 8080, 20880, 20881, 65535]),
    cluster=st.sampled_from(["DEFAULT", "c1", "c 2"]),
    weight=st.sampled_from([0.0, 0.001, 1.0, 10_000.0, 1e300]),
    healthy=st.booleans(),
    enabled=st.booleans(),
    ephemeral=st.just(True),
    metadata=metadata,
)
services = st.lists(instances, max_size=8, unique_by=lambda instance: instance.key).map(tuple)


def check(entry: ServiceEntry) -> None:
    """The rules that each entry keeps."""
    names, numbers = [port.name for port in entry.ports], [port.number for port in entry.ports]
    assert len(set(names)) == len(names) >= 1
    assert len(set(numbers)) == len(numbers)
    assert all(1 <= number <= 65535 for number in numbers)
    assert all(port.protocol in ISTIO_PROTOCOLS for port in entry.ports)
    for endpoint in entry.endpoints:
        assert names[0] in endpoint.ports
        assert endpoint.ports.keys() <= set(names)
        assert all(1 <= number <= 65535 for number in endpoint.ports.values())
        assert endpoint.weight >= 1
        assert all(is_label(key, value) for key, value in endpoint.labels.items())
        assert _is_name(endpoint.address) is (entry.resolution == ServiceEntry.DNS)
        if entry.resolution != ServiceEntry.DNS:
            address = ipaddress.ip_address(endpoint.address)
            assert "%" not in endpoint.address
            assert not any((address.is_loopback, address.is_link_local, address.is_multicast))
            assert not address.is_unspecified
    places = [(one.address.lower().removesuffix("."), one.ports[names[0]]) for one in entry.endpoints]
    assert len(set(places)) == len(places)
    assert sum(one.weight for one in entry.endpoints) < 1 << 32


def _is_name(address: str) -> bool:
    """Whether it is a host name by Istio's rules; an IP address is none, anything else fails the test."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        labels = address.removesuffix(".").split(".")
        assert all(re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", label) for label in labels)
        assert not labels[-1].isdigit()
        assert "localhost" not in labels[-1].lower()
        return True
    return False


def entries(log: Publisher) -> list[ServiceEntry]:
    """What is published."""
    return [ServiceEntry.FromString(body) for _, body in contents_of(log)]


@given(first=services, then=st.lists(services, max_size=4))
@SETTINGS
def test_hostile_instances_never_make_an_entry_that_is_refused(first: Any, then: Any) -> None:
    """Ports, protocols, addresses and weights; and a later state gives what a fold of it alone gives."""
    log = Publisher()
    log.lay({KEY: first})
    for here in then:
        log.change(KEY, here)
        assert log.fold.faults == []
    for entry in entries(log):
        check(entry)
    fresh = Publisher()
    fresh.lay(log.registry())
    assert contents(log.events) == contents(fresh.events)


def test_the_rules_of_this_test_are_rules() -> None:
    """An ordinary entry keeps them."""
    log = Publisher()
    log.lay({KEY: (Instance("10.0.0.1", 80, "DEFAULT", 1.0, True, True, True, {}),)})
    (entry,) = entries(log)
    check(entry)
    assert ConversionSettings().protocol in ISTIO_PROTOCOLS


@given(here=services, there=services, then=st.lists(st.tuples(st.booleans(), services), max_size=4))
@SETTINGS
def test_two_datacenters_never_make_an_entry_that_is_refused(here: Any, there: Any, then: Any) -> None:
    """Each endpoint once; and neither the order of reading nor kept bytes of a datacenter show."""
    logs = [Publisher(datacenter=name) for name in ("dc1", "dc2")]
    for log, first in zip(logs, (here, there), strict=True):
        log.lay({KEY: first})
    shared, view = Fold(CONVERSION, UNGUARDED), NamespaceView(PUBLIC, CONVERSION)
    read = [0, 0]
    for turn, (is_second, one) in enumerate([(False, None), (True, None), *then]):
        log = logs[is_second]
        if turn > 1:
            log.change(KEY, one)
        for event in log.events[read[is_second] :]:
            shared.apply(f"topic-{is_second}", read[is_second], event)
            read[is_second] += 1
        if PUBLIC in shared.state.changes:
            changes = shared.state.changes[PUBLIC]
            dirty, changes.dirty = changes.dirty, Touched()
            if (update := view.update(shared.state, dirty, Occasion("test"))) is not None:
                view.published(update)
                for record in filter(None, update.records.values()):
                    check(ServiceEntry.FromString(record.body()))
    fresh, fresh_view = Fold(CONVERSION, UNGUARDED), NamespaceView(PUBLIC, CONVERSION)
    for number in (1, 0):
        for offset, event in enumerate(logs[number].events):
            fresh.apply(f"topic-{number}", offset, event)
    if PUBLIC in fresh.state.changes:
        update = fresh_view.update_all(fresh.state, Occasion("test"))
        assert update is not None
        assert {name: record.version for name, record in update.records.items() if record} == view.versions
