"""A self-contained piece of the log in a folder, as Avro object container files: it is checked without Kafka.

    bundle.json        what it is of, the settings that its snapshots depend on, a SHA-256 of every other file
    manifests.avro     the namespace's history
    events-N.avro      the partition's events of one topic, from where the first manifest's fold begins
    decisions.avro     operators' decisions over the namespace
    deliveries.avro    what was sent to whom in that time
    schemas/           the Avro schemas, for other readers

The events are those of all namespaces of the partition: the guard counts them together.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

from consumers.errors import BadBundleError
from consumers.settings import ConversionSettings, GuardSettings
from schemas import control, events, records
from schemas.avro_codec import schema_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from consumers.audit.verifying import Positioned
    from schemas.records import Manifest

FORMAT = 1
DESCRIPTION = "bundle.json"
_SCHEMAS = ("registry_event", "control_event", "manifest", "delivery")


class Logged(NamedTuple):
    """A decoded record with its place: topic, partition, offset, and when it was written, milliseconds (UTC)."""

    topic: str
    partition: int
    offset: int
    at_ms: int
    value: dict[str, Any]


def write_records(path: Path, schema: str, found: Iterable[Logged]) -> int:
    """One container file; how many records it has."""
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for one in found:
            count += 1
            yield one._asdict()

    with path.open("wb") as file:
        fastavro.writer(file, _container_schema(schema), counted(), codec="deflate")
    return count


def seal(folder: Path, description: dict[str, Any]) -> None:
    """Adds the schemas, and the description with a hash of every file."""
    (folder / "schemas").mkdir(exist_ok=True)
    for name in _SCHEMAS:
        (folder / "schemas" / f"{name}.avsc").write_text(schema_text(name))
    files = {
        path.relative_to(folder).as_posix(): _hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != DESCRIPTION
    }
    whole = {"format": FORMAT, **description, "files": files}
    (folder / DESCRIPTION).write_text(json.dumps(whole, indent=2) + "\n")


@dataclass(slots=True)
class Bundle:
    """A bundle that is whole: a `Source` for `verify`."""

    folder: Path
    description: dict[str, Any]
    conversion: ConversionSettings
    guard: GuardSettings

    @classmethod
    def open(cls, folder: Path) -> Bundle:
        """Reads the description and compares every file with its hash.

        Raises:
            BadBundleError: it is no bundle, or a file is missing, cut short or not what it was.
        """
        try:
            description = json.loads((folder / DESCRIPTION).read_text())
            files, settings = dict(description["files"]), description["settings"]
            conversion = ConversionSettings.model_validate(settings["conversion"])
            guard = GuardSettings.model_validate(settings["guard"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadBundleError(f"{folder} is no bundle: {DESCRIPTION}: {error}") from error
        if description.get("format") != FORMAT:
            raise BadBundleError(
                f"{folder} is a bundle of format {description.get('format')}; this reads {FORMAT}"
            )
        for name, expected in files.items():
            path = folder / name
            if not path.is_file():
                raise BadBundleError(f"{name} is missing from the bundle")
            if _hash(path) != expected:
                raise BadBundleError(f"{name} is not what was exported: its hash differs")
        if not (folder / "manifests.avro").is_file() or "manifests.avro" not in files:
            raise BadBundleError("manifests.avro is missing from the bundle")
        return cls(folder, description, conversion, guard)

    def manifests(self) -> Iterator[Manifest]:
        """The namespace's history."""
        for one in self._read("manifests.avro"):
            yield records.manifest_from_avro(one["value"])

    def events(self, topic: str, first: int) -> Iterator[Positioned]:
        """The events of a topic from that offset on."""
        name = self.description["events"].get(topic, {}).get("file")
        for one in self._read(name) if name else ():
            if one["offset"] >= first:
                yield topic, one["offset"], events.from_avro(one["value"])

    def earliest(self, topic: str) -> int:
        """The first offset of a topic that is there; one that is missing begins beyond everything."""
        known = self.description["events"].get(topic)
        return 1 << 62 if known is None else int(known["first"])

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        try:
            with (self.folder / name).open("rb") as file:
                yield from fastavro.reader(file, return_record_name=True)  # type: ignore[misc]
        except (OSError, ValueError, EOFError, fastavro.schema.SchemaParseException) as error:
            raise BadBundleError(f"{name} can't be read: {error}") from error


def settings_of(conversion: ConversionSettings, guard: GuardSettings) -> dict[str, Any]:
    """The settings that snapshots depend on, as the description holds them."""
    return {"conversion": conversion.model_dump(mode="json"), "guard": guard.model_dump(mode="json")}


def to_avro(schema: str, value: Any) -> dict[str, Any]:
    """A typed record as its schema has it."""
    writers: dict[str, Any] = {
        "registry_event": events.to_avro,
        "control_event": control.to_avro,
        "manifest": records.manifest_to_avro,
        "delivery": records.delivery_to_avro,
    }
    return writers[schema](value)  # type: ignore[no-any-return]


def _container_schema(name: str) -> Any:
    return fastavro.parse_schema(
        {
            "type": "record",
            "name": "Logged",
            "namespace": "io.shiplog.bundle",
            "fields": [
                {"name": "topic", "type": "string"},
                {"name": "partition", "type": "int"},
                {"name": "offset", "type": "long"},
                {"name": "at_ms", "type": "long"},
                {"name": "value", "type": json.loads(schema_text(name))},
            ],
        }
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
