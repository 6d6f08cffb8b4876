"""The pure parts of the audit: times, trails, differences, slices of time, bundles."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from consumers.audit.bundle import DESCRIPTION, Bundle, Logged, seal, settings_of, to_avro, write_records
from consumers.audit.differences import as_istio, differences
from consumers.audit.logged import Published
from consumers.audit.timeline import slices
from consumers.audit.trails import HORIZON_US, follow
from consumers.audit.verdict import Verdict
from consumers.audit.verifying import verify
from consumers.errors import BadBundleError
from consumers.materializer.conversion import converter_name
from consumers.settings import ConversionSettings, GuardSettings
from schemas.events import Datacenter, Namespace, ServiceKey
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.records import ChangeKind, Delivery, DeliveryKind, Manifest, Part, ResourceRecord
from shiplog.audit.times import format_ms, parse_time
from shiplog.errors import CommandError
from tests.unit.conversions import TOPIC, UNGUARDED, Log, make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from consumers.audit.verifying import Positioned

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
ENTRIES = "istio/networking/v1alpha3/serviceentries"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T14:03:00+01:00", "2026-11-23T13:03:00.000Z"),
        ("2026-11-23T14:03", "2026-11-23T14:03:00.000Z"),
        ("2026-11-23 14:03 Europe/Berlin", "2026-11-23T13:03:00.000Z"),
        ("9:30 Asia/Shanghai", "2026-11-23T01:30:00.000Z"),
        ("2h ago", "2026-11-23T12:00:00.000Z"),
        ("1d 6h ago", "2026-11-22T08:00:00.000Z"),
        ("90s ago", "2026-11-23T13:58:30.000Z"),
        ("now", "2026-11-23T14:00:00.000Z"),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, moment: str) -> None:
    """In any zone; without one in UTC."""
    assert format_ms(parse_time(text, NOW)) == moment


@pytest.mark.parametrize("text", ["", "ago", "yesterday", "2026-13-01", "14:03 Nowhere/Atlantis"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With examples, or the zone's name."""
    with pytest.raises(CommandError):
        parse_time(text, NOW)


def delivery(
    kind: str, at: int, *, pilot: str = "p", stream: str = "1", version: str = "v", gateway: str = "g"
) -> Delivery:
    """A record of the trail at that second."""
    if kind not in {"SENT", "ACK", "NACK"}:
        pilot = stream = ""
    return Delivery(
        pilot=pilot, address="ipv4:10.0.0.1:7", node="", gateway=gateway, view="default", protocol="mcp",
        collection=ENTRIES, version=version, kind=DeliveryKind(kind), bytes=1, code=3, message="no",
        at=at * 1_000_000, stream=stream,
    )  # fmt: skip


def had(*deliveries: Delivery, at: int) -> str | None:
    """The version that the Pilot had."""
    sending = follow(deliveries).had("p", ENTRIES, at * 1_000_000)
    return None if sending is None else sending.sent.version


def test_a_pilot_has_what_it_acknowledged_last() -> None:
    """Not what was only sent, and not what it refused; in whatever order the records were read."""
    trail = [
        delivery("ACK", 3, version="b"),
        delivery("SENT", 1, version="a"),
        delivery("SENT", 2, version="b"),
        delivery("ACK", 1, version="a"),
        delivery("SENT", 4, version="c"),
        delivery("NACK", 5, version="c"),
    ]
    assert [had(*trail, at=second) for second in (0, 1, 2, 3, 9)] == [None, "a", "a", "b", "b"]


def test_streams_of_one_connection_are_told_apart() -> None:
    """They share an address, and may be sent the same version."""
    trail = follow(
        [
            delivery("SENT", 1, stream="1"),
            delivery("SENT", 1, stream="2", pilot="q"),
            delivery("ACK", 2, stream="2", pilot="q"),
        ]
    )
    assert trail.had("p", ENTRIES, 9_000_000) is None
    assert trail.had("q", ENTRIES, 9_000_000) is not None


@pytest.mark.parametrize(
    ("records", "at", "is_lost"),
    [
        ([delivery("WHOLE", 20)], 10, False),
        ([delivery("WHOLE", 8)], 10, True),
        ([delivery("STOPPED", 8)], 10, False),
        ([delivery("WHOLE", 8), delivery("STARTED", 15), delivery("WHOLE", 20)], 10, True),
        ([delivery("WHOLE", 12), delivery("STARTED", 15), delivery("WHOLE", 20)], 10, False),
        ([delivery("STOPPED", 8), delivery("STARTED", 9), delivery("WHOLE", 20)], 10, False),
        ([delivery("WHOLE", 5), delivery("GAP", 9), delivery("WHOLE", 20)], 10, True),
        ([delivery("WHOLE", 20), delivery("WHOLE", 8, gateway="other")], 10, True),
        ([delivery("WHOLE", 20), delivery("ACK", 11), delivery("WHOLE", 8, gateway="other")], 10, False),
    ],
)
def test_what_may_be_missing_is_known(records: list[Delivery], at: int, is_lost: bool) -> None:  # noqa: FBT001
    """A gateway that ended without a word, began anew, had no room; not one that the Pilot was not on."""
    trail = follow([delivery("SENT", 2), delivery("ACK", 3), *records])
    sending = trail.had("p", ENTRIES, at * 1_000_000)
    assert sending is not None
    assert (trail.loss_after(sending, at * 1_000_000) is not None) is is_lost


def test_a_gateway_that_is_long_silent_hides_nothing_more() -> None:
    """It is taken to be gone."""
    late = 3 + HORIZON_US // 1_000_000 + 100
    trail = follow(
        [
            delivery("STARTED", 1, gateway="dead"),
            delivery("SENT", late),
            delivery("ACK", late),
            delivery("WHOLE", late + 9),
        ]
    )
    sending = trail.had("p", ENTRIES, (late + 5) * 1_000_000)
    assert sending is not None
    assert trail.loss_after(sending, (late + 5) * 1_000_000) is None


def service(version: str, **endpoints: list[tuple[str, int]]) -> ResourceRecord:
    """A service with these addresses and weights by datacenter."""
    parts = []
    for datacenter, found in endpoints.items():
        entry = ServiceEntry()
        for address, weight in found:
            entry.endpoints.add(address=address, weight=weight).ports["http"] = 80
        parts.append(Part(datacenter=Datacenter(datacenter), digest="", body=entry.SerializeToString()))
    return ResourceRecord(
        namespace=Namespace("n"), collection=ENTRIES, name="n/a", version=version,
        type_url="type.googleapis.com/istio.networking.v1alpha3.ServiceEntry", labels={}, annotations={},
        head=ServiceEntry(hosts=["a"]).SerializeToString(), parts=tuple(parts),
    )  # fmt: skip


def test_differences_go_down_to_the_endpoint() -> None:
    """Which came, went, or is described otherwise, and in which datacenter; equal versions are not looked at."""
    before = service("1", east=[("10.0.0.1", 100), ("10.0.0.2", 100)], west=[("10.0.0.1", 100)])
    after = service("2", east=[("10.0.0.1", 50), ("10.0.0.3", 100)], west=[("10.0.0.1", 100)])
    (found,) = differences({(ENTRIES, "n/a"): before}, {(ENTRIES, "n/a"): after})
    assert [(str(e.kind), e.endpoint, e.datacenter, e.detail) for e in found.endpoints] == [
        ("CHANGED", "10.0.0.1:80", "east", "weight: 100 -> 50"),
        ("REMOVED", "10.0.0.2:80", "east", ""),
        ("ADDED", "10.0.0.3:80", "east", ""),
    ]
    assert not found.head_differs
    assert differences({(ENTRIES, "n/a"): before}, {(ENTRIES, "n/a"): before}) == []
    (gone,) = differences({(ENTRIES, "n/a"): before}, {})
    assert (gone.kind, len(gone.endpoints)) == (ChangeKind.REMOVED, 3)


def test_a_resource_is_shown_as_istio_writes_it() -> None:
    """Ready for kubectl."""
    shown = as_istio(service("1", east=[("10.0.0.1", 100)]))
    assert (shown["apiVersion"], shown["kind"]) == ("networking.istio.io/v1alpha3", "ServiceEntry")
    assert shown["metadata"] == {"name": "a", "namespace": "n"}
    assert shown["spec"]["endpoints"] == [{"address": "10.0.0.1", "ports": {"http": 80}, "weight": 100}]


def manifest(offset: int, **facts: Any) -> Manifest:
    """A manifest of that version."""
    known: dict[str, Any] = {
        "resources": 1, "added": 1, "changed": 0, "removed": 0, "changes": (), "reason": "change",
        "converter": "1", "observed_at": 1, "links": {}, "digest": "d" * 32,
    }  # fmt: skip
    return Manifest(namespace=Namespace("n"), version={"t": offset}, **(known | facts))


def test_a_timeline_has_slices_of_equal_length() -> None:
    """Each with what happened in it; those in which nothing did are left out."""
    history = [
        Published(manifest(1, holds=("service a",)), 0, 1000),
        Published(manifest(2, resources=7), 1, 1999),
        Published(manifest(3), 2, 9999),
    ]
    first, last = slices(history, 0, 10_000, 5)
    assert (first.versions, first.added, first.resources, list(first.holds)) == (2, 2, 7, ["service a"])
    assert (first.changes_per_s, last.from_ms, last.version) == (1.0, 8000, {"t": 3})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of one manifest whose events are missing."""
    found = manifest(1, recover_from={"t": 0}, folded_to={"t": 1})
    write_records(tmp_path / "manifests.avro", "manifest", [Logged("h", 0, 0, 1, to_avro("manifest", found))])
    seal(tmp_path, {"settings": settings_of(ConversionSettings(), GuardSettings()), "events": {}})
    return tmp_path


def test_a_bundle_without_its_events_proves_nothing(bundle: Path) -> None:
    """It says what is missing; it is no mismatch."""
    opened = Bundle.open(bundle)
    (finding,) = verify(opened, opened.conversion, opened.guard)
    assert (finding.verdict, "needs t from offset 0" in finding.reason) == (Verdict.UNVERIFIABLE, True)


class LateTopic:
    """A log whose second topic joins with a beginning that is no longer there: a `Source`."""

    def __init__(self) -> None:
        self.log = Log()
        self.log.keyframe({ServiceKey("g", "a"): [make()]})
        made = replace(
            self.log.snapshot().manifest,
            recover_from={TOPIC: 0},
            folded_to={TOPIC: len(self.log.events) - 1},
            converter=converter_name(self.log.settings, UNGUARDED),
        )
        late = replace(made, recover_from={TOPIC: 0, "late": 3}, folded_to={**made.folded_to, "late": 9})
        self.history = [made, late, made]

    def manifests(self) -> Iterator[Manifest]:
        return iter(self.history)

    def events(self, topic: str, first: int) -> Iterator[Positioned]:
        return ((topic, offset, event) for offset, event in enumerate(self.log.events) if offset >= first)

    def earliest(self, topic: str) -> int:
        return 5 if topic == "late" else 0


def test_a_topic_that_joins_without_its_beginning_is_named() -> None:
    """It is missing, and no mismatch; behind it the verification begins anew."""
    source = LateTopic()
    findings = list(verify(source, source.log.settings, UNGUARDED))
    assert [finding.verdict for finding in findings] == ["VERIFIED", "UNVERIFIABLE", "VERIFIED"]
    assert findings[1].reason == "it needs late from offset 3, and the log begins at 5"


def test_an_altered_bundle_is_no_bundle(bundle: Path) -> None:
    """A file that changed, is missing, or is named by no hash; a description that is none."""
    manifests = bundle / "manifests.avro"
    kept = manifests.read_bytes()
    manifests.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(BadBundleError, match="hash differs"):
        Bundle.open(bundle)
    manifests.unlink()
    with pytest.raises(BadBundleError, match="missing"):
        Bundle.open(bundle)
    description = json.loads((bundle / DESCRIPTION).read_text())
    (bundle / DESCRIPTION).write_text(json.dumps(description | {"files": {}}))
    with pytest.raises(BadBundleError, match="missing"):
        Bundle.open(bundle)
    (bundle / DESCRIPTION).write_text(json.dumps(description | {"format": 9}))
    with pytest.raises(BadBundleError, match="format 9"):
        Bundle.open(bundle)
    (bundle / DESCRIPTION).write_text("{")
    with pytest.raises(BadBundleError, match="no bundle"):
        Bundle.open(bundle)
