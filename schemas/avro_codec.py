"""Records to bytes and back: Avro's single-object encoding, or Confluent's wire format.

Single-object: C3 01, the schema's CRC-64-AVRO fingerprint (8 bytes, little endian), the body.
Confluent: 00, the schema's id in the schema registry (4 bytes, big endian), the body.
Readers take both, so a topic may change from one to the other.
https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas import control, events, records
from schemas.delivery_writer import write_delivery
from schemas.errors import SchemaError, UndecodableRecordError, UnknownSchemaError
from schemas.event_reader import EventReader

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\x00"
_EVENTS_READ_ALIKE = frozenset({"5bd494a18be3e270"})
"""Older schemas of registry events in which the envelope, states and deltas are as they are now."""


class SchemaRegistry(Protocol):
    """Schemas by id, and ids by schema; see `schemas.schema_registry`."""

    def id_of(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject, registered if it is new."""

    def schema_of(self, schema_id: int) -> str:
        """The schema with that id, as JSON."""


@cache
def schema_text(name: str) -> str:
    """The present schema of a record, as JSON."""
    return (resources.files("schemas") / "avro" / f"{name}.avsc").read_text()


@cache
def _parsed(text: str) -> Any:
    return fastavro.parse_schema(json.loads(text))


@cache
def _fingerprint(text: str) -> bytes:
    hex_digits = fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO")
    return bytes.fromhex(hex_digits)


@cache
def _superseded(name: str) -> dict[bytes, str]:
    """Older schemas of a record by fingerprint: what was written with them can still be read."""
    folder = resources.files("schemas") / "avro" / "superseded"
    texts = [entry.read_text() for entry in folder.iterdir() if entry.name.startswith(name + ".")]
    return {_fingerprint(text): text for text in texts}


class _Writer(NamedTuple):
    """A header: its size, its schema, whether that is the present one, whether `shortcut` reads it."""

    header_size: int
    schema: Any
    is_present: bool
    has_shortcut: bool


@dataclass(slots=True, kw_only=True)
class AvroCodec(Generic[T]):
    """Encodes and decodes one kind of record.

    With a schema registry values are written in Confluent's format under `subject`, else in the single-object
    encoding. Not bound to a thread; the schema registry is asked once per schema.

    `shortcut` reads what was written with the present schema, or with the older ones whose fingerprints are
    `shortcut_fingerprints`, from an offset to the end; None when it can't. Where it raises, fastavro reads.
    `write` makes the body by the present schema, where that is not left to fastavro.
    """

    name: str
    to_avro: Callable[[T], dict[str, Any]]
    from_avro: Callable[[dict[str, Any]], T]
    registry: SchemaRegistry | None = None
    subject: str = ""
    shortcut: Callable[[bytes, int], T | None] | None = None
    shortcut_fingerprints: frozenset[str] = frozenset()
    write: Callable[[T], bytes] | None = None
    _header: bytes = field(default=b"", init=False)
    _writers: dict[bytes, _Writer] = field(default_factory=dict, init=False)

    def encode(self, value: T) -> bytes:
        """The record's bytes, header included."""
        header = self._header or self._make_header()
        if self.write is not None:
            return header + self.write(value)
        out = io.BytesIO()
        out.write(header)
        fastavro.schemaless_writer(out, _parsed(schema_text(self.name)), self.to_avro(value))
        return out.getvalue()

    def decode(self, data: bytes | None) -> T:
        """The record in `data`.

        Raises:
            UndecodableRecordError: empty, of an unknown schema, cut short or not fitting its schema.
            SchemaRegistryError: the schema registry can't be asked.
        """
        if not data:
            raise UndecodableRecordError("empty_value", "a record without a value")
        header = data[:10] if data[0] == _SINGLE_OBJECT[0] else data[:5]
        size, writer, is_present, has_shortcut = self._writers.get(header) or self._written_with(header)
        if has_shortcut and self.shortcut is not None:
            try:
                found = self.shortcut(data, size)
            except Exception:  # noqa: BLE001 - fastavro reads it then, or says what is wrong with it
                found = None
            if found is not None:
                return found
        source = io.BytesIO(data)
        source.seek(size)
        try:
            value = fastavro.schemaless_reader(
                source, writer, None if is_present else _parsed(schema_text(self.name)), return_record_name=True
            )
            if source.tell() != len(data):
                raise UndecodableRecordError("trailing_bytes", f"{len(data) - source.tell()} after the record")
            return self.from_avro(value)  # type: ignore[arg-type]
        except UndecodableRecordError:
            raise
        except Exception as error:  # fastavro raises whatever the bytes led it into
            raise UndecodableRecordError("bad_avro", f"{type(error).__name__}: {error}") from error

    def _make_header(self) -> bytes:
        text = schema_text(self.name)
        if self.registry is None:
            self._header = _SINGLE_OBJECT + _fingerprint(text)
        else:
            self._header = _CONFLUENT + self.registry.id_of(self.subject, text).to_bytes(4, "big")
        return self._header

    def _written_with(self, header: bytes) -> _Writer:
        """What a header says, which was not met before."""
        try:
            schema = self._find_schema(header)
        except UnknownSchemaError as error:
            raise UndecodableRecordError("unknown_schema", str(error)) from error
        except SchemaError:
            raise
        except Exception as error:  # a schema registry may hold any text
            raise UndecodableRecordError("unknown_schema", f"{type(error).__name__}: {error}") from error
        is_present = schema is _parsed(schema_text(self.name))
        has_shortcut = is_present or header[2:].hex() in self.shortcut_fingerprints
        known = _Writer(len(header), schema, is_present, has_shortcut)
        self._writers[header] = known
        return known

    def _find_schema(self, header: bytes) -> Any:
        text = schema_text(self.name)
        if header[:2] == _SINGLE_OBJECT and len(header) == 10:
            if header[2:] == _fingerprint(text):
                return _parsed(text)
            older = _superseded(self.name).get(header[2:])
            if older is not None:
                return _parsed(older)
            raise UndecodableRecordError("unknown_schema", f"fingerprint {header[2:].hex()}")
        if header[:1] == _CONFLUENT and len(header) == 5:
            if self.registry is None:
                raise UndecodableRecordError("no_schema_registry", "written with a schema registry's id")
            found = self.registry.schema_of(int.from_bytes(header[1:], "big"))
            return _parsed(text) if _fingerprint(found) == _fingerprint(text) else _parsed(found)
        raise UndecodableRecordError("bad_header", header.hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class Codecs:
    """The codec of every kind of record that travels."""

    registry_event: AvroCodec[events.RegistryEvent]
    control_event: AvroCodec[control.ControlEvent]
    resource: AvroCodec[records.ResourceRecord]
    manifest: AvroCodec[records.Manifest]
    delivery: AvroCodec[records.Delivery]
    quarantined: AvroCodec[records.Quarantined]


def codecs(registry: SchemaRegistry | None = None) -> Codecs:
    """All codecs, writing Confluent's format when there is a schema registry."""

    def codec(
        name: str,
        to_avro: Callable[[T], dict[str, Any]],
        from_avro: Callable[[dict[str, Any]], T],
        shortcut: Callable[[bytes, int], T | None] | None = None,
        shortcut_fingerprints: frozenset[str] = frozenset(),
        write: Callable[[T], bytes] | None = None,
    ) -> AvroCodec[T]:
        # Confluent's "record name" strategy: one topic may hold several records.
        subject = json.loads(schema_text(name))
        return AvroCodec(
            name=name,
            to_avro=to_avro,
            from_avro=from_avro,
            registry=registry,
            subject=f"{subject['namespace']}.{subject['name']}",
            shortcut=shortcut,
            shortcut_fingerprints=shortcut_fingerprints,
            write=write,
        )

    return Codecs(
        registry_event=codec(
            "registry_event", events.to_avro, events.from_avro, EventReader().read, _EVENTS_READ_ALIKE
        ),
        control_event=codec("control_event", control.to_avro, control.from_avro),
        resource=codec("resource_record", records.resource_to_avro, records.resource_from_avro),
        manifest=codec("manifest", records.manifest_to_avro, records.manifest_from_avro),
        delivery=codec("delivery", records.delivery_to_avro, records.delivery_from_avro, write=write_delivery),
        quarantined=codec("quarantined", records.quarantined_to_avro, records.quarantined_from_avro),
    )
