"""Virtual addresses: who gets one, which, and what happens where hashes meet or none is left."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from pydantic import ValidationError

from consumers.materializer.conversion.addresses import candidate
from consumers.materializer.fold_state import Touched
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import AddressSettings, ConversionSettings
from schemas.events import Instance, ServiceGone, ServiceKey, ServiceState
from tests.unit.conversions import PUBLIC, Log, make

RANGE = ip_network("240.241.0.0/16")


def settings(**changes: str) -> ConversionSettings:
    """Settings with these of the addresses."""
    return ConversionSettings.model_validate({"addresses": changes, "empty_grace_s": 0})


def of(protocol: str) -> list[Instance]:
    """An instance that names a protocol."""
    return [make(metadata={"protocol": protocol})]


def addresses(log: Log) -> dict[str, list[str]]:
    """By host."""
    return {entry.hosts[0]: list(entry.addresses) for _, entry in sorted(log.entries().items())}


def key(name: str) -> ServiceKey:
    """A service of that name."""
    return ServiceKey("g", name)


@pytest.mark.parametrize(
    ("given_to", "protocol", "has_one"),
    [
        ("tcp", "tcp", True),
        ("tcp", "dubbo", True),
        ("tcp", "mysql", True),
        ("tcp", "tls", True),
        ("tcp", "http", False),
        ("tcp", "grpc", False),
        ("tcp", "tri", False),
        ("off", "tcp", False),
        ("all", "http", True),
    ],
)
def test_who_gets_an_address(given_to: str, protocol: str, *, has_one: bool) -> None:
    """By default whose port does not say by what travels which service is meant."""
    log = Log(settings(**{"for": given_to}))
    log.keyframe({key("s"): of(protocol)})
    ((found),) = addresses(log).values()
    assert len(found) == has_one
    assert all(ip_address(one) in RANGE for one in found)


def test_an_address_is_a_hash_of_the_host() -> None:
    """Equal on every machine, as long as the range is: a test of the number itself."""
    assert candidate(AddressSettings(), "orders.default-group.public.nacos", 0) == ADDRESS_OF_ORDERS


ADDRESS_OF_ORDERS = "240.241.195.182"


def test_where_hashes_meet_who_was_there_keeps_the_address() -> None:
    """In a range of two addresses the second service gets the other one, and the third none, which is told.

    When the first is gone, the others have both.
    """
    log = Log(settings(range="10.99.0.0/30"))
    log.keyframe({})
    for name in ("first", "second", "third"):
        log.add(ServiceState(key=key(name), instances=tuple(of("tcp"))))
    found = addresses(log)
    assert sorted(found["first.g.public.nacos"] + found["second.g.public.nacos"]) == ["10.99.0.1", "10.99.0.2"]
    assert found["third.g.public.nacos"] == []
    view = NamespaceView(PUBLIC, log.settings)
    update = view.update_all(log.fold.state, Occasion("test"))
    assert update is not None
    view.published(update)
    assert view.without_address == ["g@@third"]
    assert len(update.manifest.claims) == 3
    log.add(ServiceGone(key=key("first")))
    changes = log.fold.state.changes[PUBLIC]
    update = view.update(log.fold.state, changes.dirty, Occasion("test"))
    assert update is not None
    view.published(update)
    changes.dirty = Touched()
    left = [one for (one,) in addresses(log).values()]
    assert sorted(left) == ["10.99.0.1", "10.99.0.2"]
    assert view.versions == {name: one.version for name, one in log.snapshot().records.items() if one is not None}
    assert view.without_address == []


def test_a_service_that_becomes_http_gives_its_address_back() -> None:
    """And one that becomes TCP takes one."""
    log = Log(settings(range="10.99.0.0/31"))
    log.keyframe({key("a"): of("tcp"), key("b"): of("http")})
    assert [len(one) for _, one in sorted(addresses(log).items())] == [1, 0]
    log.add(ServiceState(key=key("a"), instances=tuple(of("http"))))
    log.add(ServiceState(key=key("b"), instances=tuple(of("tcp"))))
    assert [len(one) for _, one in sorted(addresses(log).items())] == [0, 1]


@pytest.mark.parametrize(
    "range_",
    [
        "240.240.0.0/16",
        "240.240.7.0/24",
        "240.0.0.0/8",
        "2001:2::/64",
        "127.0.0.0/8",
        "126.0.0.0/7",
        "169.254.0.0/15",
        "0.0.0.0/8",
        "::ffff:240.242.0.0/112",
        "224.0.0.0/8",
        "x",
        "10.0.0.1/32",
        "10.0.0.1/8",
    ],
)
def test_a_range_that_can_not_be_had_is_refused(range_: str) -> None:
    """What Istio hands out itself, what no sidecar may listen on, what is no network."""
    with pytest.raises(ValidationError):
        settings(range=range_)


def test_a_range_may_be_of_the_sixth_version() -> None:
    """With so many addresses hashes do not meet."""
    log = Log(settings(range="fd00:99::/64"))
    log.keyframe({key("a"): of("tcp")})
    (((found),),) = addresses(log).values()
    assert ip_address(found) in ip_network("fd00:99::/64")
