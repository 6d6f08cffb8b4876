"""Who has a name that several services want, and what a manifest tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumers.audit.verdict import Verdict
from consumers.audit.verification import Foreknowledge, Verification
from consumers.materializer.allotment import Allotment
from consumers.materializer.conversion import FIRST_REVISION, SERVICE_ENTRIES, converter_name
from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.replay import Replay
from consumers.materializer.view import NamespaceView, Occasion
from schemas.events import ConfigGone, ConfigKey, ConfigState, ServiceDelta, ServiceGone, ServiceKey, ServiceState
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings
    from schemas.records import Manifest

ORDERS = ServiceKey("DEFAULT_GROUP", "orders")
HOST = "orders.default-group.public.nacos"


def came(log: Log, key: ServiceKey, ip: str) -> None:
    """A service comes, with one instance."""
    log.add(ServiceState(key=key, instances=(make(ip),)))


def hosts(log: Log) -> dict[str, str]:
    """The address behind each host."""
    return {one.hosts[0]: one.endpoints[0].address for one in log.entries().values()}


def manifest_of(log: Log, *, recover_from: int = 0) -> Manifest:
    """The manifest of what stands at the end of a log."""
    occasion = Occasion(
        "test",
        {TOPIC: recover_from},
        {TOPIC: len(log.events) - 1},
        converter_name(log.settings, UNGUARDED),
    )
    update = NamespaceView(PUBLIC, log.settings).update_all(log.fold.state, occasion)
    assert update is not None
    return update.manifest


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ORDERS, ServiceKey("DEFAULT-GROUP", "orders")),
        (ServiceKey("DEFAULT-GROUP", "orders"), ORDERS),
        (ServiceKey("default-group", "orders"), ORDERS),
        (ServiceKey("v1.prod", "orders"), ServiceKey("prod", "orders.v1")),
        (ServiceKey("prod", "orders.v1"), ServiceKey("v1.prod", "orders")),
        (ServiceKey("g", "Orders"), ServiceKey("g", "orders")),
        (ServiceKey("g", "orders"), ServiceKey("g", "ORDERS")),
        (ServiceKey("g", "a_b"), ServiceKey("g", "a-b")),
    ],
)
def test_who_has_a_host_keeps_it(first: ServiceKey, second: ServiceKey) -> None:
    """Whatever comes later, under a name that comes out the same, carries a hash; and keeps that, too."""
    log = Log()
    log.keyframe({})
    came(log, first, "10.0.0.1")
    ((host, _),) = hosts(log).items()
    came(log, second, "10.0.0.2")
    found = hosts(log)
    assert found.pop(host) == "10.0.0.1"
    ((hashed, address),) = found.items()
    assert (hashed[: len(host.split(".")[0])], address) == (host.split(".")[0], "10.0.0.2")


def test_the_name_goes_to_the_next_in_line_when_its_owner_is_gone() -> None:
    """Then the one that came second has it, and the third still carries its hash."""
    log = Log()
    log.keyframe({})
    for number, service in enumerate(("orders", "Orders", "ORDERS"), start=1):
        came(log, ServiceKey("g", service), f"10.0.0.{number}")
    log.add(ServiceGone(key=ServiceKey("g", "orders")))
    assert hosts(log)["orders.g.public.nacos"] == "10.0.0.2"
    assert len(hosts(log)) == 2


def test_a_service_without_an_instance_has_no_claim() -> None:
    """One that is registered and empty for long comes to life behind one that was there."""
    log = Log()
    log.keyframe({ServiceKey("g", "orders"): []})
    came(log, ServiceKey("g", "Orders"), "10.0.0.2")
    came(log, ServiceKey("g", "orders"), "10.0.0.1")
    assert hosts(log)["orders.g.public.nacos"] == "10.0.0.2"


def test_a_name_with_a_hash_can_be_taken_by_nobody() -> None:
    """A service that is really called like that gets another name when it comes later, and keeps it when first."""
    log = Log()
    log.keyframe({})
    came(log, ServiceKey("g", "orders"), "10.0.0.1")
    came(log, ServiceKey("g", "Orders"), "10.0.0.2")
    (hashed,) = hosts(log).keys() - {"orders.g.public.nacos"}
    attack = ServiceKey("g", hashed.split(".")[0])
    came(log, attack, "10.6.6.6")
    assert hosts(log)[hashed] == "10.0.0.2"
    assert len(hosts(log)) == 3
    earlier = Log()
    earlier.keyframe({})
    came(earlier, attack, "10.6.6.6")
    came(earlier, ServiceKey("g", "orders"), "10.0.0.1")
    came(earlier, ServiceKey("g", "Orders"), "10.0.0.2")
    assert hosts(earlier)[hashed] == "10.6.6.6"
    assert len(hosts(earlier)) == 3


def test_a_manifest_tells_since_when_those_are_there_who_want_one_name() -> None:
    """So a fold that begins at a later keyframe, for which both came with that, gives the name to the same one."""
    log = Log()
    log.keyframe({})
    came(log, ServiceKey("g", "Orders"), "10.0.0.1")
    came(log, ServiceKey("g", "orders"), "10.0.0.2")
    came(log, ServiceKey("g", "alone"), "10.0.0.3")
    start = len(log.events)
    log.keyframe({ServiceKey("g", name): [make(f"10.0.0.{n}")] for n, name in ((2, "orders"), (1, "Orders"))})
    manifest = manifest_of(log, recover_from=start)
    assert sorted(manifest.claims.values()) == [2, 3]
    replay = Replay(log.settings, UNGUARDED, manifest)
    for offset, event in enumerate(log.events):
        replay.apply(TOPIC, offset, event)
    assert replay.snapshot()[0] == manifest.digest
    ignorant = Fold(log.settings, UNGUARDED)
    for offset, event in enumerate(log.events[start:], start=start):
        ignorant.apply(TOPIC, offset, event)
    assert manifest_of_fold(ignorant, log.settings) != manifest.digest


def manifest_of_fold(fold: Fold, settings: ConversionSettings) -> str:
    """The digest that a fold arrives at."""
    update = NamespaceView(PUBLIC, settings).update_all(fold.state, Occasion("test"))
    assert update is not None
    return update.manifest.digest


def test_an_audit_that_begins_earlier_agrees_with_a_materializer_that_was_restarted() -> None:
    """What a manifest says of who came first holds from there on, for everybody who reads it."""
    log = Log()
    log.keyframe({})
    came(log, ServiceKey("g", "Orders"), "10.0.0.1")
    came(log, ServiceKey("g", "orders"), "10.0.0.2")
    audit = Verification(log.settings, UNGUARDED, Foreknowledge())
    for offset, event in enumerate(log.events):
        audit.apply(TOPIC, offset, event)
    assert audit.check(manifest_of(log)).verdict is Verdict.VERIFIED
    restarted = Log()
    restarted.events += log.events
    restarted.keyframe(
        {ServiceKey("g", name): [make(f"10.0.0.{n}")] for n, name in ((1, "Orders"), (2, "orders"))}
    )
    for offset, event in enumerate(restarted.events[len(log.events) :], start=len(log.events)):
        audit.apply(TOPIC, offset, event)
    manifest = manifest_of(restarted, recover_from=len(log.events))
    assert manifest.digest != manifest_of(log).digest
    assert audit.check(manifest).verdict is Verdict.VERIFIED


def test_the_first_revision_names_as_it_did() -> None:
    """Letters of either case, and two that come out alike both carry a hash."""
    log = Log(revision=FIRST_REVISION)
    log.keyframe({ServiceKey("DEFAULT_GROUP", "Orders"): [make()]})
    assert list(log.entries()) == ["public/Orders.DEFAULT-GROUP.public"]


ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s}
spec: {hosts: [%s], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC}
"""


def item(name: str, host: str) -> ConfigState:
    """A config item that states a service entry."""
    text = ENTRY % (name, host)
    return ConfigState(key=ConfigKey("ISTIO", "item"), content=text, content_type="yaml", md5="")


@pytest.mark.parametrize("host", [HOST, HOST.upper()])
def test_an_item_replaces_a_generated_entry_by_its_host(host: str) -> None:
    """The generated one is left out and the conflict told, until the item is gone."""
    log = Log()
    log.keyframe({ORDERS: [make()]})
    view = NamespaceView(PUBLIC, log.settings)

    def update() -> None:
        changes = log.fold.state.changes[PUBLIC]
        dirty, changes.dirty = changes.dirty, Touched()
        if (made := view.update(log.fold.state, dirty, Occasion("test"))) is not None:
            view.published(made)

    update()
    generated = (SERVICE_ENTRIES, "public/orders.default-group.public")
    assert set(view.versions) == {generated}
    log.add(item("mine", host))
    update()
    assert set(view.versions) == {(SERVICE_ENTRIES, "public/mine")}
    assert view.conflicts[generated] == (
        "dc1:ISTIO/item (public/mine)",
        "service DEFAULT_GROUP@@orders, of the same host",
    )
    log.add(ServiceDelta(key=ORDERS, upserts=(make("10.0.0.2"),), removals=(), count=2, digest=0))
    update()
    assert set(view.versions) == {(SERVICE_ENTRIES, "public/mine")}
    log.add(item("mine", "other.example"))
    update()
    assert set(view.versions) == {(SERVICE_ENTRIES, "public/mine"), generated}
    assert not view.conflicts
    log.add(item("mine", host))
    log.add(ConfigGone(key=ConfigKey("ISTIO", "item")))
    update()
    assert set(view.versions) == {generated}


def test_an_item_replaces_a_generated_entry_by_its_name() -> None:
    """Names of the default group are names that Kubernetes allows."""
    log = Log()
    log.keyframe({ORDERS: [make()]})
    log.add(item("orders.default-group.public", "other.example"))
    (entry,) = log.entries().values()
    assert list(entry.hosts) == ["other.example"]


def test_a_change_of_one_of_many_that_want_a_name_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rank is what it was: nobody is served anew, however many want the same."""
    log = Log()
    keys = [ServiceKey("DEFAULT_GROUP", f"v1{'中' * (number + 1)}") for number in range(30)]
    log.keyframe({key: [make()] for key in keys})
    view = NamespaceView(PUBLIC, log.settings)
    view.update_all(log.fold.state, Occasion("test"))
    served: list[object] = []
    original = Allotment._serve

    def counted(self: Allotment, claimant: ServiceKey) -> set[ServiceKey]:
        served.append(claimant)
        return original(self, claimant)

    monkeypatch.setattr(Allotment, "_serve", counted)
    log.add(ServiceState(key=keys[3], instances=(make(weight=2.0),), protect_threshold=0.0))
    assert view.update(log.fold.state, Touched(services={keys[3]}), Occasion("test")) is not None
    assert served == []
