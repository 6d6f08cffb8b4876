"""Hostile values as text, fields of every kind by protobuf's descriptors, and the way from an event to Pilots."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from consumers.audit.differences import as_istio, differences
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.partition import MaterializedPartition
from consumers.settings import ConversionSettings, ExpectedSettings
from mcp_gateway.resources import PLAIN, store_resource
from producers.listener.diff import state
from schemas.avro_codec import Codecs, codecs
from schemas.events import Datacenter, RegistryEvent, ServiceKey, SessionId, SyncCompleted, SyncStarted
from schemas.topics import MAX_RECORD_BYTES, ManifestKey, ResourceKey
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, make, seen

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    from consumers.materializer.fold import Outcome
    from schemas.events import RegistryBody
    from schemas.records import ResourceRecord

EXAMPLES = int(os.environ.get("SHIPLOG_FUZZ_SCHEMAS", "200"))
"""100,000 in `make soak`."""
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
GOOD = ServiceKey("DEFAULT_GROUP", "good")

NUMBERS = (
    "0", "-0", "1", "-1", "+5", "00001", "1.5", "-1.5", "2147483647", "2147483648", "-2147483649", "4294967295",
    "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1" * 25, "9" * 309,
    "9" * 310, "-" + "9" * 310, "9" * 400, "9" * 401, "9" * 4301, "9" * 20_000, "1e308", "1e309", "-1e400",
    "1.0e+400", "-1.0e+400", "1.7976931348623157e308", "5e-324", "1e-400", "0." + "0" * 5000 + "1",
    "9" * 5000 + ".5",
)  # fmt: skip
"""As JSON and YAML both write them, mostly."""
STRINGS = (
    '""', '" "', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\udfff\\ud800"', '"\\ud83d\\ude00"',
    '"\\u200b\\u2028"', '"\\n\\r\\t"', '"é"', '"中文"', '"%s%n{0}"', '"../../x"', '"a|b"', '"a@@b"',
    '"|manifest"', '"*"', '"-"', '"."', '"' + "x" * 300 + '"', '"' + "y" * 70_000 + '"', '"NaN"', '"Infinity"',
    '"-Infinity"', '"nan"', '"inf"', '"1e400"', '"' + "9" * 5000 + '"', '"1s"', '"====="', '"aGk"', '"true"',
    '"null"', '"1970-01-01T00:00:00Z"',
)  # fmt: skip
SHAPES = (
    "null", "true", "false", "[]", "{}", "[null]", "[[]]", "[1,2]", '{"a": 1}', '{"": null}', '{"@type": 1}',
    '{"value": {"value": 1}}', '{"\\u0000": 1}', "[" * 30 + "]" * 30, "[" * 63 + "]" * 63,
    "[" * 200 + "]" * 200, "[" * 900 + "]" * 900, '{"a":' * 40 + "1" + "}" * 40, "[" + "1," * 2000 + "1]",
    "{" + ",".join(f'"k{n}": {n}' for n in range(500)) + "}",
)  # fmt: skip
DURATIONS = (
    "1s", "1.5s", "-1s", "1h30m", "0", "0s", "100ms", "99999999999999999999s", "9999999999999999h",
    "9" * 29 + "s", "9" * 5000 + "ns", "0." + "9" * 40 + "s", "315576000000s", "315576000001s",
    "-315576000001s", "1s1", "s", "1e9s",
)  # fmt: skip
YAML_ONLY = (
    ".inf", "-.inf", ".nan", "~", "yes", "0x1F", "0o17", "0b101", "1_000", "1:30", "190:20:30.15", "2001-01-01",
    "2001-12-14t21:59:43.10-05:00", "!!binary aGk=", "!!int 5", "!!int x", "!!float .inf", "!!str 5", "!x y",
    "!!null x", "!!set {a}", "!!timestamp 2001-01-01", "*unknown", "&a [*a]", "{<<: {a: 1}}", "{[1]: 2}",
    "{? a : b}", '"\\ud800"', '"\\x00"', '"\\U00110000"', "'", "{", "a: b: c", "x\x00y", "\x85", "\ufeff", "`",
    "@", "%", "? ", "- ", "&b [&c [1,2], *c, *c]",
)  # fmt: skip

json_values = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(STRINGS),
    st.sampled_from(SHAPES),
    st.integers(-(10**330), 10**330).map(str),
    st.floats().map(repr),
    st.text().map(json.dumps),
)
yaml_values = st.one_of(json_values, st.sampled_from(DURATIONS), st.sampled_from(YAML_ONLY))


def wrapped(path: tuple[FieldDescriptor, ...], value: str) -> str:
    """The text of a message whose field at the end of a path has this value."""
    for one in reversed(path):
        inner = one.message_type
        if inner is not None and inner.GetOptions().map_entry:
            value = f'{{"key": {value}}}'
        elif one.is_repeated:
            value = f"[{value}]"
        value = f'{{"{one.json_name}": {value}}}'
    return value


def paths(descriptor: Descriptor) -> list[tuple[FieldDescriptor, ...]]:
    """A way to every field of every message that a message can hold, each message by its shortest way."""
    found: list[tuple[FieldDescriptor, ...]] = []
    seen_messages = {descriptor.full_name}
    waiting: list[tuple[Descriptor, tuple[FieldDescriptor, ...]]] = [(descriptor, ())]
    while waiting:
        message, way = waiting.pop(0)
        for one in message.fields:
            found.append((*way, one))
            inner = one.message_type
            if inner is not None and inner.GetOptions().map_entry:
                inner = inner.fields_by_name["value"].message_type
            is_walked = inner is not None and not inner.full_name.startswith("google.protobuf.")
            if is_walked and inner.full_name not in seen_messages:
                seen_messages.add(inner.full_name)
                waiting.append((inner, (*way, one)))
    return found


PATHS: dict[str, list[tuple[FieldDescriptor, ...]]] = {
    name: paths(kind.descriptor) for name, kind in KINDS.items()
}


@dataclass
class Way:
    """From an event to what Pilots get, as bytes travel; `publish` answers with the records of an update."""

    partition: MaterializedPartition = field(
        default_factory=lambda: MaterializedPartition(
            number=0,
            settings=ConversionSettings(),
            guard=UNGUARDED,
            expected=ExpectedSettings(),
            published={},
            live_from={},
            recovering=False,
        )
    )
    codecs: Codecs = field(default_factory=codecs)
    published: dict[tuple[str, str], ResourceRecord] = field(default_factory=dict)
    offset: int = 0

    def open(self) -> None:
        """An empty keyframe of the namespace."""
        self.add(SyncStarted(reason="test"))
        self.add(SyncCompleted(services=0, config_items=0))

    def add(self, body: RegistryBody, **changes: Any) -> Outcome:
        """Encodes, decodes and folds an event of the session."""
        event = RegistryEvent(
            datacenter=Datacenter("dc1"),
            namespace=PUBLIC,
            session=SessionId("s"),
            epoch=1,
            sequence=self.offset,
            observed_at=self.offset,
            body=body,
        )._replace(**changes)
        codec = self.codecs.registry_event
        outcome = self.partition.apply(TOPIC, self.offset, codec.decode(codec.encode(event)))
        self.offset += 1
        return outcome

    def publish(self) -> None:
        """Makes, encodes and takes in what changed; each record fits, and decodes for a gateway and an audit."""
        for view, update in self.partition.updates():
            before = dict(self.published)
            for (collection, name), record in update.records.items():
                if record is None:
                    self.published.pop((collection, name), None)
                    continue
                key = ResourceKey(update.manifest.namespace, collection, name).encode()
                value = self.codecs.resource.encode(record)
                assert len(key) + len(value) < MAX_RECORD_BYTES
                decoded = self.codecs.resource.decode(value)
                assert decoded == record
                store_resource(decoded, [PLAIN])
                as_istio(decoded)
                self.published[collection, name] = record
            differences(before, self.published)
            manifest = self.codecs.manifest.encode(update.manifest)
            assert len(ManifestKey(update.manifest.namespace).encode()) + len(manifest) < 1024 * 1024
            view.published(update)
        assert self.partition.take_view_faults() == []

    def good_service_is_published(self) -> bool:
        """Whether a good service that is stated now reaches Pilots."""
        self.add(state(GOOD, seen(make(weight=1 + self.offset)))[0])
        self.publish()
        record = self.published.get(
            ("istio/networking/v1alpha3/serviceentries", "public/good.default-group.public")
        )
        return record is not None and b"10.0.0.1" in record.body()
