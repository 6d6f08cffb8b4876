"""What each revision of the converter makes of a fixed log: its output never changes under its name.

A revision whose output differs gets a file of its own, made by this test's `record`; the files of former revisions
stay. An audit says UNVERIFIABLE of what another revision made.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.audit.verdict import Verdict
from consumers.audit.verification import Foreknowledge, Verification
from consumers.materializer.conversion import REVISION, converter_name
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings
from schemas.events import ConfigKey, ConfigState, ServiceKey, ServiceState, SyncCompleted, SyncStarted
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make

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


def fixed_log() -> Log:
    """Services and a config item of every peculiarity that the conversion knows."""
    log = Log()
    log.add(SyncStarted(reason="test"))
    for key, instances in SERVICES.items():
        log.add(ServiceState(key=key, instances=instances))
    text = ConfigState(key=ConfigKey("ISTIO", "route"), content=ROUTE, content_type="yaml", md5="")
    log.add(text)
    log.add(SyncCompleted(services=len(SERVICES), config_items=1))
    return log


def record() -> dict[str, object]:
    """What the present revision makes of it."""
    update = fixed_log().snapshot()
    return {
        "digest": update.manifest.digest,
        "resources": {
            " ".join(name): {"version": one.version, "body": hashlib.sha256(one.body()).hexdigest()}
            for name, one in sorted(update.records.items())
            if one is not None
        },
    }


def test_a_revisions_output_does_not_change() -> None:
    """Versions, digest and bytes: who changes them makes a new revision, or breaks every audit of the past."""
    assert record() == json.loads((GOLDEN / f"converter-{REVISION}.json").read_text())


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("converter-*.json")), ids=lambda path: path.stem)
def test_what_another_revision_made_is_unverifiable_and_no_mismatch(path: Path) -> None:
    """And what this one made is verified: by the digest that was recorded then."""
    log = fixed_log()
    revision = path.stem.removeprefix("converter-")
    settings = ConversionSettings()
    made_by = converter_name(settings, UNGUARDED).replace(f"{REVISION}-", f"{revision}-", 1)
    occasion = Occasion("test", converter=made_by, recover_from={TOPIC: 0}, folded_to={TOPIC: len(log.events) - 1})
    update = NamespaceView(PUBLIC, settings).update_all(log.fold.state, occasion)
    assert update is not None
    recorded = replace(update.manifest, digest=json.loads(path.read_text())["digest"])
    for manifest, verdict in (
        (recorded, Verdict.VERIFIED if revision == REVISION else Verdict.UNVERIFIABLE),
        (replace(recorded, converter="0-00000000", digest="0" * 32), Verdict.UNVERIFIABLE),
    ):
        verification = Verification(settings, UNGUARDED, Foreknowledge())
        for offset, event in enumerate(log.events):
            verification.apply(TOPIC, offset, event)
        assert verification.check(manifest).verdict is verdict
