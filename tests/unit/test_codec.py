"""Records to bytes and back, in both wire formats, whatever comes in."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import control, records
from schemas.avro_codec import codecs, schema_text
from schemas.errors import SchemaRegistryError, UndecodableRecordError
from schemas.events import (
    ConfigGone,
    ConfigKey,
    ConfigState,
    Datacenter,
    Heartbeat,
    InstanceKey,
    Link,
    Namespace,
    NamespaceGone,
    RegistryBody,
    RegistryEvent,
    ServiceDelta,
    ServiceGone,
    ServiceKey,
    ServicePart,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.schema_registry import HttpSchemaRegistry
from tests.unit.conversions import make

if TYPE_CHECKING:
    from collections.abc import Iterator

FIXTURES = Path(__file__).parent / "fixtures"
SERVICE = ServiceKey("DEFAULT_GROUP", "svc")
BODIES: list[RegistryBody] = [
    SyncStarted(reason="session"),
    ServiceState(key=SERVICE, instances=(make(metadata={"k": "v"}),), protect_threshold=0.5),
    ServicePart(key=SERVICE, instances=(make(metadata={"k": "v"}),), protect_threshold=0.5, part=1, parts=3),
    ServiceDelta(key=SERVICE, upserts=(make(),), removals=(InstanceKey("1.1.1.1", 1, "c"),), count=3, digest=9),
    ServiceGone(key=SERVICE),
    ConfigState(key=ConfigKey("g", "d"), content="text", content_type="yaml", md5="0"),
    ConfigGone(key=ConfigKey("g", "d")),
    SyncCompleted(
        services=1, config_items=2, kept_services=(SERVICE,), keeps_all_services=True,
        kept_items=(ConfigKey("g", "d"),), kept_item_groups=("ISTIO*",),
    ),
    NamespaceGone(),
    Heartbeat(link=Link.BLIND, detail="gone"),
]  # fmt: skip


def event(body: RegistryBody) -> RegistryEvent:
    """An event with this body."""
    return RegistryEvent(
        datacenter=Datacenter("dc1"), namespace=Namespace("public"), session=SessionId("s"), epoch=2, sequence=3,
        observed_at=4, body=body,
    )  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_event_survives_the_way(body: RegistryBody) -> None:
    """Encoded and decoded, it is equal."""
    codec = codecs().registry_event
    assert codec.decode(codec.encode(event(body))) == event(body)


def test_every_other_record_survives_the_way() -> None:
    """Control events, resources, manifests, deliveries, quarantined records."""
    c = codecs()
    pin = control.ControlEvent(
        namespace=Namespace("n"), author="a", reason="r", issued_at=1, body=control.Pin(version={"t": 5})
    )
    assert c.control_event.decode(c.control_event.encode(pin)) == pin
    resource = records.ResourceRecord(
        namespace=Namespace("n"), collection="c", name="x/y", version="v", type_url="t", labels={"a": "b"},
        annotations={}, head=b"h", parts=(records.Part(datacenter=Datacenter("dc1"), digest="d", body=b"p"),),
    )  # fmt: skip
    assert c.resource.decode(c.resource.encode(resource)) == resource
    manifest = records.Manifest(
        namespace=Namespace("n"), version={"t": 5}, digest="d", resources=1, added=1, changed=0, removed=0,
        changes=(records.Change(kind=records.ChangeKind.ADDED, collection="c", name="x/y"),), reason="events",
        converter="1", observed_at=1, links={"dc1": Link.LIVE}, suspect=(Datacenter("dc1"),),
    )  # fmt: skip
    assert c.manifest.decode(c.manifest.encode(manifest)) == manifest
    delivery = records.Delivery(
        pilot="p", address="a", node="", gateway="g", view="default", protocol="mcp", collection="c", version="v",
        kind=records.DeliveryKind.NACK, bytes=1, code=3, message="no", at=1,
    )  # fmt: skip
    assert c.delivery.decode(c.delivery.encode(delivery)) == delivery
    poison = records.Quarantined(
        topic="t", partition=1, offset=2, process="p", reason="r", detail="d", key=b"k", value=b"v", at=1
    )
    assert c.quarantined.decode(c.quarantined.encode(poison)) == poison


def test_the_header_is_avros_single_object_one() -> None:
    """C3 01 and the schema's fingerprint."""
    assert codecs().registry_event.encode(event(NamespaceGone()))[:2] == b"\xc3\x01"


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.avro.hex")), ids=lambda path: path.name)
def test_records_of_older_schemas_are_read(path: Path) -> None:
    """Every fixture ever written still decodes: the log outlives its writers."""
    name = path.name.split(".")[0]
    assert getattr(codecs(), name).decode(bytes.fromhex(path.read_text()))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_value"),
        (None, "empty_value"),
        (b"garbage", "bad_header"),
        (b"\xc3\x01" + bytes(8) + b"x", "unknown_schema"),
        (b"\x00\x00\x00\x00\x01x", "no_schema_registry"),
        (codecs().registry_event.encode(event(NamespaceGone()))[:14], "bad_avro"),
        (codecs().registry_event.encode(event(NamespaceGone())) + b"x", "trailing_bytes"),
    ],
)
def test_what_does_not_decode_says_why(data: bytes | None, reason: str) -> None:
    """One error, with a reason that is fit for a metric's label."""
    with pytest.raises(UndecodableRecordError) as raised:
        codecs().registry_event.decode(data)
    assert raised.value.reason == reason


@given(st.binary(max_size=200))
def test_garbage_behind_a_good_header_never_crashes(garbage: bytes) -> None:
    """It decodes or it is an UndecodableRecordError; nothing else comes out."""
    codec = codecs().registry_event
    header = codec.encode(event(NamespaceGone()))[:10]
    with contextlib.suppress(UndecodableRecordError):
        codec.decode(header + garbage)


class FakeRegistry(BaseHTTPRequestHandler):
    """The two calls of Confluent's schema registry that the wire format needs, as documented."""

    schemas: list[str]

    def do_POST(self) -> None:
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        if schema not in self.schemas:
            self.schemas.append(schema)
        self._answer(200, {"id": self.schemas.index(schema) + 1})

    def do_GET(self) -> None:
        number = int(self.path.rsplit("/", 1)[1])
        if self.path.startswith("/odd"):
            self._answer(200, {"unexpected": 1})
        elif number > len(self.schemas):
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        else:
            self._answer(200, {"schema": self.schemas[number - 1]})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry_url() -> Iterator[str]:
    """A fake schema registry: there is no free real one to run here."""
    handler = type("Handler", (FakeRegistry,), {"schemas": ["{}"]})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_with_a_schema_registry_values_are_in_confluents_format(registry_url: str) -> None:
    """00 and the schema's id; another process reads it, and single-object records as well."""
    writer, reader = (codecs(HttpSchemaRegistry(registry_url)).registry_event for _ in range(2))
    data = writer.encode(event(NamespaceGone()))
    assert data[:5] == b"\x00\x00\x00\x00\x02"
    assert reader.decode(data) == event(NamespaceGone())
    assert reader.decode(codecs().registry_event.encode(event(NamespaceGone()))) == event(NamespaceGone())


def test_a_schema_registry_that_refuses_is_named(registry_url: str) -> None:
    """The call and its status stand in the error."""
    with pytest.raises(SchemaRegistryError, match="404"):
        HttpSchemaRegistry(registry_url).schema_of(99)


@pytest.mark.parametrize("schema_id", [1, 99])
def test_a_record_that_names_no_schema_of_the_registry_costs_itself(registry_url: str, schema_id: int) -> None:
    """One that is not there, or is no schema: the record is wrong, not the registry."""
    with pytest.raises(UndecodableRecordError) as raised:
        codecs(HttpSchemaRegistry(registry_url)).registry_event.decode(
            b"\x00" + schema_id.to_bytes(4, "big") + b"x"
        )
    assert raised.value.reason == "unknown_schema"


def test_a_registry_that_is_away_or_answers_nonsense_is_no_fault_of_a_record(registry_url: str) -> None:
    """Else every record would be set aside while it is."""
    record = b"\x00" + bytes(4) + b"x"
    for url in ("http://127.0.0.1:1", f"{registry_url}/odd"):
        with pytest.raises(SchemaRegistryError):
            codecs(HttpSchemaRegistry(url)).registry_event.decode(record)


def test_schemas_are_valid_json() -> None:
    """And name themselves in shiplog's namespace."""
    assert json.loads(schema_text("manifest"))["namespace"] == "io.shiplog.v1"
