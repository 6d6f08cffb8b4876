"""Resources of every kind that differ from good ones in a few fields, made from a seed."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import yaml
from google.protobuf.descriptor import FieldDescriptor

from consumers.materializer.conversion.kinds import KINDS
from tests.harness.istio_items import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

TEXTS = (
    *("", "a", "A.b", "*", "*.a.example", "*a.example", "a.*", "a.example", "a.example.", "a_b", "1.2.3.4", "0"),
    *("x" * 63, "x" * 64, "x" * 65, "x" * 257, "x" * 2049, "1.2.3.999", "10.0.0.0/8", "10.0.0.0/33", "::1"),
    *("unix:///a", "unix://a", "unix://@a", "unix:///a/", "unix://", "@", "~", ".", "ns/a.example", "*/*"),
    *("^/x(?!y)$", "(", "[a-z]+", "\\d+", "TCP", "tcp", "dubbo", "HTTP", "HTTPS", "80", "70000", "-1", "é", "中"),
    *("https://a.example", "http://a:99999", "ftp://a", "oci://a/b:c", "a.example/b:c", "file:///a", ":", "%zz"),
    *("Service", "Gateway", "networking.istio.io", "a b", "a\nb", "*-a.example", "shop", "mesh", "CONNECT", "x:y"),
    *("[::1]", "./a.b"),
)
WHOLE = (0, 1, -1, 2, 80, 100, 101, 199, 200, 308, 599, 600, 65535, 65536, 70000, 2**31 - 1, 2**31, 2**32 - 1)
ODD = ("80", "", 1.5, True, None, [], {}, [1], {"a": 1}, "x", 0, -1)
FRACTIONS = (0, 0.5, 1.5, 100, 100.5, -0.1, 0.00001, 1e300)
DURATIONS = (
    *("0s", "1ms", "1.5ms", "500us", "999999ns", "-1s", "1h30m", "9999999h", "2540400h", "1", "0", ".5s", "1s1"),
    *("s", "1.s", "+1s", "1s ", "1S", "1d", "100ms", "0.001s", "1m0.0005s"),
)
KEYS = ("", "a", "*", "a*", "80", "0", "70000", "-1", "x" * 63, "x" * 64, "a.b/c", "a_b", "é", "http", "tcp-db")
MAX_DEPTH = 6


class Generator:
    """Documents from a seed: the same ones each time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.good = [document for text in EXAMPLES for document in yaml.safe_load_all(text)]

    def documents(self, count: int) -> Iterator[dict[str, Any]]:
        """So many, the kinds in turn."""
        for number in range(count):
            document = copy.deepcopy(self.good[number % len(self.good)])
            descriptor = KINDS[document["kind"]].descriptor
            for _ in range(self.random.choice((1, 1, 1, 2, 3))):
                self.change(descriptor, document.setdefault("spec", {}))
            yield document

    def change(self, descriptor: Descriptor, spec: dict[str, Any]) -> None:
        """Changes one field of some message in it."""
        places = list(messages(descriptor, spec))
        message, value = self.random.choice(places)
        if value and self.random.random() < 0.3:
            del value[self.random.choice(list(value))]
            return
        field = self.random.choice(message.fields)
        present = value.get(field.json_name)
        if isinstance(present, list) and present and self.random.random() < 0.3:
            present.append(copy.deepcopy(self.random.choice(present)))
            return
        value[field.json_name] = self.field(field, 0)

    def field(self, field: FieldDescriptor, depth: int) -> Any:
        """A value for a field, of its type mostly."""
        if self.random.random() < 0.06:
            return copy.deepcopy(self.random.choice(ODD))
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            values = inner.fields_by_name["value"]
            return {self.random.choice(KEYS): self.single(values, depth) for _ in range(self.random.randrange(3))}
        if field.is_repeated:
            return [self.single(field, depth) for _ in range(self.random.choice((0, 1, 1, 2, 3, 17)))]
        return self.single(field, depth)

    def single(self, field: FieldDescriptor, depth: int) -> Any:
        """One value."""
        inner = field.message_type
        if inner is not None:
            return self.message(inner, depth + 1)
        if field.enum_type is not None:
            return self.random.choice([*(one.name for one in field.enum_type.values), "NO_SUCH", 1])
        match field.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self.random.choice(TEXTS)
            case FieldDescriptor.CPPTYPE_BOOL:
                return self.random.choice((True, False, "true"))
            case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
                return self.random.choice(FRACTIONS)
        return self.random.choice(WHOLE)

    def message(self, message: Descriptor, depth: int) -> Any:
        """A message with some of its fields."""
        if message.full_name == "google.protobuf.Duration":
            return self.random.choice(DURATIONS)
        if message.full_name == "google.protobuf.Struct":
            return {"a": [1, {"b": None}]}
        if message.full_name.startswith("google.protobuf."):
            return self.single(message.fields_by_name["value"], depth)
        if depth > MAX_DEPTH:
            return {}
        chosen = self.random.sample(
            list(message.fields), min(len(message.fields), self.random.choice((0, 1, 1, 2, 3)))
        )
        return {field.json_name: self.field(field, depth) for field in chosen}


def messages(descriptor: Descriptor, value: Any) -> Iterator[tuple[Descriptor, dict[str, Any]]]:
    """Every message in a value, itself first."""
    if not isinstance(value, dict):
        return
    yield descriptor, value
    for field in descriptor.fields:
        inner, found = field.message_type, value.get(field.json_name)
        if inner is None or inner.full_name.startswith("google.protobuf."):
            continue
        if inner.GetOptions().map_entry:
            of_map = inner.fields_by_name["value"].message_type
            if of_map is not None and isinstance(found, dict):
                for one in found.values():
                    yield from messages(of_map, one)
        elif field.is_repeated:
            for one in found if isinstance(found, list) else ():
                yield from messages(inner, one)
        else:
            yield from messages(inner, found)
