"""What the log alone says of the past, against what clients recorded themselves, on real servers."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.audit.verdict import Verdict
from schemas.avro_codec import codecs
from schemas.partitioner import partition_of
from schemas.topics import REGISTRY_EVENTS, SNAPSHOT_HISTORY
from shiplog.audit.pilot_view import PilotAudit
from shiplog.settings import Settings
from tests.harness.load import make_instance
from tests.harness.logs import read_history
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.processes import guard
from tests.harness.servers import PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Process, Processes
    from tests.harness.servers import KafkaServer

SERVICES, INSTANCES = 12, 12
SAMPLES = 100
APART_S = 0.25
"""A moment so close to a push may fall before it or behind it: clients and gateways write their times apart."""
VIEWS = {
    "SHIPLOG_GATEWAY__VIEWS": json.dumps({"one": {"datacenters": ["dc1"], "istio_namespace": "mesh"}}),
    "SHIPLOG_GATEWAY__VIEW_RULES": json.dumps([{"view": "one", "node": {"id": "one-*"}}]),
}
GUARDED = guard("enforce", "service") | guard("observe", "namespace", "datacenter")
WHY = ("--reason", "a test", "--author", "tester")


def audit(processes: Processes, *arguments: str, ok: bool = True) -> Any:
    """What `shiplog audit` prints as JSON."""
    done = processes.run("audit", *arguments, "--output", "json", **GUARDED, **VIEWS)
    assert (done.returncode == 0) is ok, done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def control(processes: Processes, namespace: str, command: str, *options: str) -> None:
    """A decision that is carried out."""
    done = processes.control(command, "--namespace", namespace, *options, *WHY)
    assert done.returncode == 0, done.stderr


def restarted(process: Process) -> None:
    """kill -9, and up again."""
    process.child.kill()
    process.start()
    process.wait()


def eventful_hours(
    processes: Processes, namespace: str, load: Load, gateways: list[Process], other: Process
) -> None:
    """Changes throughout, with kills, a failover, a hold, a freeze and a pin."""
    load.change(40, per_second=20)
    restarted(gateways[0])
    other.child.kill()
    load.change(30, per_second=20)
    load.state("svc-3", [make_instance(3, 0)])  # the guard keeps the others
    load.change(20, per_second=20)
    control(processes, namespace, "freeze")
    load.change(20, per_second=20)
    control(processes, namespace, "unfreeze")
    timeline = audit(processes, "timeline", "-n", namespace, "--from", "10m ago", "--rows", "1")
    load.change(20, per_second=20)
    restarted(gateways[1])
    control(processes, namespace, "pin", "--version", timeline["slices"][0]["digest"])
    load.change(20, per_second=20)
    control(processes, namespace, "unpin")
    load.change(20, per_second=20)
    time.sleep(6)  # until the gateways have marked their trails as whole


@pytest.mark.timeout(400)
def test_the_log_says_what_each_pilot_had_at_any_time(
    processes: Processes,
    kafka: KafkaServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
    tmp_path: Path,
) -> None:
    """A hundred random moments: what the log gives, proven by digests, is what the client had written down.

    And the commands answer: at, diff, why, who, timeline, verify, export; an altered bundle is found out.
    """
    load.register(SERVICES, INSTANCES)
    processes.start("listener")
    processes.start(
        "listener", SHIPLOG_LISTENER__DATACENTER="dc2", SHIPLOG_LISTENER__GROUP=f"listener-2-{namespace}"
    )
    expected = json.dumps({"datacenters": ["dc1", "dc2"], "grace_s": 60})
    both = [processes.start("materializer", SHIPLOG_MATERIALIZER__EXPECTED=expected, **GUARDED) for _ in range(2)]
    gateways = [processes.start("gateway", **VIEWS) for _ in range(2)]
    for process in (*both, *gateways):
        process.wait()
    addresses = [gateway.address for gateway in gateways]
    fleet = [
        pilots(*addresses, node="all-mcp"),
        pilots(*addresses[::-1], protocol="ads", node="all-ads"),
        pilots(*addresses, protocol="ads", node="one-ads"),
        pilots(*addresses[::-1], node="one-mcp"),
    ]
    wait_for(lambda: all(len(pilot.endpoints()) == SERVICES for pilot in fleet), timeout_s=40, what="all services")
    eventful_hours(processes, namespace, load, gateways, both[0])

    modes = {"service": "enforce", "namespace": "observe", "datacenter": "observe"}
    settings = Settings.model_validate(
        {
            "kafka": {"servers": kafka.servers},
            "materializer": {"guard": {scope: {"mode": mode} for scope, mode in modes.items()}},
            "gateway": {
                "views": json.loads(VIEWS["SHIPLOG_GATEWAY__VIEWS"]),
                "view_rules": json.loads(VIEWS["SHIPLOG_GATEWAY__VIEW_RULES"]),
            },
        }
    )
    proven, unproven = samples(settings, fleet)
    assert proven == SAMPLES
    assert unproven.total() < SAMPLES / 2, f"only where a gateway was killed: {unproven}"

    commands(processes, namespace, fleet[0])
    bundles(processes, namespace, tmp_path)
    forged_and_deleted(processes, kafka, namespace)


def samples(settings: Settings, fleet: list[Pilot]) -> tuple[int, Counter[str]]:
    """How many answers were proven, each equal to what the client recorded; and why others can't be."""
    chance = random.Random(7)
    proven, unproven = 0, Counter[str]()
    with PilotAudit(settings) as log:
        while proven < SAMPLES and unproven.total() < SAMPLES:
            pilot = chance.choice(fleet)
            at = chance.uniform(pilot.arrivals[0], pilot.arrivals[-1] + 2)
            if any(abs(at - arrival) < APART_S for arrival in pilot.arrivals):
                continue
            recorded = pilot.contents[sum(arrival <= at for arrival in pilot.arrivals) - 1]
            answer = log.at(pilot.node, SERVICE_ENTRIES, int(at * 1000))
            if answer.verdict is Verdict.UNVERIFIABLE:
                unproven[answer.reason.split("Z")[-1]] += 1
                continue
            assert answer.verdict is Verdict.VERIFIED, answer.reason
            assert answer.resources == recorded, told(log, pilot, at)
            proven += 1
    return proven, unproven


def told(log: PilotAudit, pilot: Pilot, at: float) -> str:
    """What is recorded of a Pilot around a moment, for a test that failed."""
    trail = log.trail(pilot.node, SERVICE_ENTRIES, int(at * 1000) + 5000)
    near = [
        f"{one.sent.at / 1e6 - at:+.3f} to {(one.acknowledged_at or 0) / 1e6 - at:+.3f}, {one.sent.gateway}"
        for one in trail.sendings
        if one.pilot == pilot.node and abs(one.sent.at / 1e6 - at) < 5
    ]
    came = [f"{arrival - at:+.3f}" for arrival in pilot.arrivals if abs(arrival - at) < 5]
    return f"came {came}; sent {near}; lost {trail.losses}"


def commands(processes: Processes, namespace: str, pilot: Pilot) -> None:
    """Each command's answer, on the same log."""
    assert pilot.last is not None
    now = audit(processes, "at", "-n", namespace, "-t", "now")
    assert (now["verdict"], now["resources"]) == ("VERIFIED", SERVICES)
    had = audit(processes, "at", "-n", namespace, "-t", "10s ago", "--pilot", "all-mcp")
    assert had["delivered_version"] == pilot.last.version
    done = processes.run(
        "audit", "at", "-n", namespace, "-t", "now", "--resource", "svc-3.", "--format", "istio-yaml", **GUARDED
    )
    (entry,) = yaml.safe_load_all(done.stdout)
    assert (entry["kind"], entry["metadata"]["namespace"]) == ("ServiceEntry", namespace)
    endpoints = [f"{one['address']}:{one['ports']['http']}" for one in entry["spec"]["endpoints"]]
    assert len(endpoints) > INSTANCES, "those that are held are there, in both datacenters"

    timeline = audit(processes, "timeline", "-n", namespace, "--from", "10m ago", "--rows", "300")
    decisions = {one for piece in timeline["slices"] for one in piece["decisions"]}
    assert {"Freeze by tester", "Pin by tester"} <= decisions
    assert any("svc-3" in hold for piece in timeline["slices"] for hold in piece["holds"])
    first, last = timeline["slices"][0], timeline["slices"][-1]
    found = audit(processes, "diff", "-n", namespace, "--from", first["digest"], "--to", last["digest"])
    assert found["from"]["verdict"] == found["to"]["verdict"] == "VERIFIED"
    assert found["endpoints"]
    assert {event["kind"] for event in found["events"]} & {"ServiceDelta", "ServiceState"}

    chain = audit(processes, "why", "-n", namespace, "-s", "svc-3", "-t", "now", "--limit", "200")
    assert chain["verdict"] == "VERIFIED"
    assert any("without" in event["what"] for event in chain["events_of_nacos"])
    assert {event["datacenter"] for event in chain["events_of_nacos"]} == {"dc1", "dc2"}
    assert any("svc-3" in hold for hold in chain["holds"])
    holders = audit(processes, "who", "-n", namespace, "--endpoint", endpoints[0])
    assert {row["pilot"]: row["had_it"] for row in holders["pilots"]} == dict.fromkeys(
        ("all-mcp", "all-ads", "one-ads", "one-mcp"), True
    )
    sent = audit(processes, "who", "-n", namespace, "--version", now["digest"])
    assert {row["pilot"] for row in sent["pilots"]} >= {"all-mcp", "all-ads"}
    assert all(row["acknowledged_at"] for row in sent["pilots"])
    assert "no version" in audit(processes, "who", "-n", namespace, "--version", "123456789", ok=False)


def bundles(processes: Processes, namespace: str, folder: Path) -> None:
    """An export is verified without Kafka; whatever is altered in it is found out."""
    out = folder / "bundle"
    metrics = folder / "audit.prom"
    whole = audit(processes, "verify", "-n", namespace, "--metrics", str(metrics))
    assert (whole["mismatch"], whole["unverifiable"]) == (0, 0)
    assert f'shiplog_audit_snapshots{{verdict="VERIFIED"}} {whole["verified"]}' in metrics.read_text()
    audit(processes, "export", "-n", namespace, "--from", "10m ago", "--out", str(out))
    nowhere = {"SHIPLOG_KAFKA__SERVERS": "127.0.0.1:1"}

    def verified() -> tuple[int, str]:
        done = processes.run("audit", "verify", "--bundle", str(out), "--output", "json", **nowhere)
        return done.returncode, done.stdout or done.stderr

    code, report = verified()
    assert code == 0, report
    assert json.loads(report)["verified"] == whole["verified"]
    events = out / "events-0.avro"
    kept = events.read_bytes()
    for altered, fault in ((kept[:-100], "hash differs"), (None, "is missing")):
        if altered is None:
            events.unlink()
        else:
            events.write_bytes(altered)
        code, report = verified()
        assert code == 1
        assert fault in report


def forged_and_deleted(processes: Processes, kafka: KafkaServer, namespace: str) -> None:
    """A manifest that the log does not give is a mismatch; one whose events are deleted can't be verified."""
    processes.stop()  # else a sweep may find a disabled instance: a later version, and a good one
    last = read_history(kafka)[-1]
    number = partition_of(namespace, PARTITIONS)
    producer = Producer({"bootstrap.servers": kafka.servers})
    forged = codecs().manifest.encode(replace(last, digest="f" * 32, version=last.version | {"forged": 1}))
    producer.produce(SNAPSHOT_HISTORY, forged, namespace.encode(), partition=number)
    producer.flush(10)
    report = audit(processes, "verify", "-n", namespace, ok=False)
    assert (report["mismatch"], report["first"][0]["version"]["forged"]) == (1, 1)
    answer = audit(processes, "at", "-n", namespace, "-t", "now", ok=False)
    assert answer["verdict"] == "MISMATCH"

    client = AdminClient({"bootstrap.servers": kafka.servers})
    for future in client.delete_records([TopicPartition(REGISTRY_EVENTS, number, 5)]).values():
        future.result(10)
    answer = audit(processes, "at", "-n", namespace, "-t", "now", ok=False)
    assert answer["verdict"] == "UNVERIFIABLE"
    assert "the log begins at 5" in answer["reason"]
