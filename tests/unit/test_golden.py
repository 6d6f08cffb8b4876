"""What each revision of the converter makes of a fixed log: its output never changes under its name.

A revision whose output differs gets a file of its own, made by this test's `record`, of a log that has what it
treats otherwise; the files of former revisions stay. An audit converts as the revision that made a manifest, and
says UNVERIFIABLE of one that it does not know.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumers.audit.verdict import Verdict
from consumers.audit.verifying import verify
from consumers.materializer.conversion import FIRST_REVISION, REVISION, REVISIONS, converter_name, revision_of
from consumers.materializer.fold import Fold
from consumers.materializer.replay import Replay
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from schemas.events import ConfigKey, ConfigState, ServiceKey, ServiceState, SyncCompleted, SyncStarted
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.events import RegistryEvent
    from schemas.records import Manifest

GOLDEN = Path(__file__).parent / "golden"
SERVICES = {
    ServiceKey("DEFAULT_GROUP", "orders"): (
        make("10.0.0.1", metadata={"version": "v1", "region": "eu", "zone": "a", "bad label": "x"}),
        make("10.0.0.2", 8081, weight=2.5, metadata={"version": "v2", "protocol": "dubbo"}),
        make("10.0.0.3", healthy=False),
    ),
    ServiceKey("X_GROUP", "providers:com.x.Y:1.0:"): (make("2001:db8::1", metadata={"network": "n1"}),),
    ServiceKey("DEFAULT_GROUP", "named"): (make("host.example"),),
}
ROUTE = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: route, labels: {team: a}}
spec: {hosts: [orders], http: [{route: [{destination: {host: orders, subset: v1}, weight: 90}]}]}
"""


SINCE_2 = {
    ServiceKey("DEFAULT_GROUP", "odd-port"): (make(metadata={"service-port": "0000655359"}),),
    ServiceKey("DEFAULT_GROUP", "padded-port"): (make(metadata={"service-port": "00080"}),),
    ServiceKey("DEFAULT_GROUP", "several-ports"): (
        make(metadata={"gRPC_port": "9090"}),
        make("10.0.0.2", 20880, metadata={"dubbo.endpoints": '[{"port":20880,"protocol":"dubbo"}]'}),
        make("10.0.0.3", metadata={"gRPC_port": "9091"}),
    ),
    ServiceKey("DEFAULT_GROUP", "unknown-protocol"): (make(metadata={"protocol": "thrift"}),),
    ServiceKey("DEFAULT_GROUP", "odd-addresses"): (
        make("127.0.0.1"),
        make("[2001:DB8::2]"),
        make("h.example"),
        make(cluster="a"),
        make(cluster="b"),
    ),
}
"""What the second revision reads otherwise, and what it does not."""


def fixed_log(revision: str, *, has: str) -> Log:
    """Services and a config item of every peculiarity that the conversion knew in revision `has`."""
    log = Log(revision=revision)
    services = SERVICES if has == FIRST_REVISION else SERVICES | SINCE_2
    log.add(SyncStarted(reason="test"))
    for key, instances in services.items():
        log.add(ServiceState(key=key, instances=instances))
    text = ConfigState(key=ConfigKey("ISTIO", "route"), content=ROUTE, content_type="yaml", md5="")
    log.add(text)
    log.add(SyncCompleted(services=len(services), config_items=1))
    return log


@dataclass
class Written:
    """A log and a history, as an audit reads them."""

    log: Log
    history: list[Manifest]

    def manifests(self) -> Iterator[Manifest]:
        yield from self.history

    def events(self, topic: str, first: int) -> Iterator[tuple[str, int, RegistryEvent]]:
        for offset, event in enumerate(self.log.events[first:], start=first):
            yield topic, offset, event

    def earliest(self, _: str) -> int:
        return 0


def record(revision: str) -> dict[str, object]:
    """What a revision makes of it."""
    update = fixed_log(revision, has=revision).snapshot()
    return {
        "digest": update.manifest.digest,
        "resources": {
            " ".join(name): {"version": one.version, "body": hashlib.sha256(one.body()).hexdigest()}
            for name, one in sorted(update.records.items())
            if one is not None
        },
    }


@pytest.mark.parametrize(
    ("changes", "name"),
    [({}, "1-8f3902a3"), ({"datacenters": {"dc1": {"locality": "eu"}}}, "1-0cdb11c3")],
)
def test_the_first_revisions_names_are_those_that_it_gave(changes: dict[str, Any], name: str) -> None:
    """Recorded before there were later settings: with another name all that it published could not be audited."""
    settings = ConversionSettings.model_validate(changes)
    assert converter_name(settings, GuardSettings(), revision=FIRST_REVISION) == name
    assert revision_of(name, settings, GuardSettings()) == FIRST_REVISION


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revisions_output_does_not_change(revision: str) -> None:
    """Versions, digest and bytes: who changes them makes a new revision, or breaks every audit of the past."""
    assert record(revision) == json.loads((GOLDEN / f"converter-{revision}.json").read_text())


def test_what_a_revision_changed_is_in_its_log() -> None:
    """Another digest of the same log: the number of the revision is not for nothing."""
    digests = {fixed_log(one, has=REVISION).snapshot().manifest.digest for one in REVISIONS}
    assert len(digests) == len(REVISIONS)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_audit_proves_what_each_revision_made(revision: str) -> None:
    """By the digest that was recorded then; with another revision or other settings it is no mismatch."""
    log, settings = fixed_log(revision, has=revision), ConversionSettings()
    occasion = Occasion(
        "test",
        converter=converter_name(settings, UNGUARDED, revision=revision),
        recover_from={TOPIC: 0},
        folded_to={TOPIC: len(log.events) - 1},
    )
    update = NamespaceView(PUBLIC, settings).update_all(log.fold.state, occasion)
    assert update is not None
    recorded = json.loads((GOLDEN / f"converter-{revision}.json").read_text())["digest"]
    found = [
        one.verdict
        for manifest in (
            replace(update.manifest, digest=recorded),
            replace(update.manifest, version={TOPIC: 99}, converter="0-00000000", digest="0" * 32),
        )
        for one in verify(Written(log, [manifest]), settings, UNGUARDED)
    ]
    assert found == [Verdict.VERIFIED, Verdict.UNVERIFIABLE]
    replay = Replay(settings, UNGUARDED, update.manifest)
    for offset, event in enumerate(log.events):
        replay.apply(TOPIC, offset, event)
    assert replay.snapshot()[0] == recorded


def test_a_history_goes_on_where_a_new_revision_converted() -> None:
    """The fold begins anew there, and everything before and after is proven."""
    settings, key = ConversionSettings(), ServiceKey("DEFAULT_GROUP", "later")
    log = fixed_log(REVISION, has=REVISION)
    begun = len(log.events)
    for weight in range(1, 5):
        log.add(ServiceState(key=key, instances=(make(weight=weight),)))
    folds = {revision: Fold(settings, UNGUARDED, revision) for revision in REVISIONS}
    view, manifests = NamespaceView(PUBLIC, settings), []
    for offset, event in enumerate(log.events):
        for fold in folds.values():
            fold.apply(TOPIC, offset, event)
        revision = FIRST_REVISION if offset < begun + 2 else REVISION
        if offset >= begun:
            converter = converter_name(settings, UNGUARDED, revision=revision)
            occasion = Occasion("test", converter=converter, recover_from={TOPIC: 0}, folded_to={TOPIC: offset})
            update = view.update_all(folds[revision].state, occasion)
            assert update is not None
            view.published(update)
            manifests.append(update.manifest)
    found = list(verify(Written(log, manifests), settings, UNGUARDED))
    assert [one.verdict for one in found] == [Verdict.VERIFIED] * 4, found
    assert len({one.manifest.converter for one in found}) == 2
