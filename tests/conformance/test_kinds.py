"""Our definitions of Istio's kinds and Istio's own mean the same: every field goes both ways."""

from __future__ import annotations

import base64
import subprocess
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

from consumers.materializer.conversion.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

VARIANTS = 12
MAX_DEPTH = 12
NUMBERS = {FieldDescriptor.TYPE_FLOAT: 1.5, FieldDescriptor.TYPE_DOUBLE: 1.5}


def run(peer: Path, mode: str, text: str = "") -> list[tuple[str, bytes]]:
    """What the peer prints: kind and body."""
    done = subprocess.run([str(peer), mode], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    return [(name, base64.b64decode(body)) for name, body in lines]


def assert_known(message: Message) -> None:
    """No field, however deep, is unknown to us."""
    assert not len(UnknownFieldSet(message)), message.DESCRIPTOR.full_name
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = list(value.values())
        else:
            inner = value if field.is_repeated else [value]
        for one in inner:
            if hasattr(one, "ListFields"):
                assert_known(one)


def fill(message: Any, variant: int, depth: int = 0) -> None:
    """Sets every field; of a oneof, another one in each variant."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None and oneof.fields[variant % len(oneof.fields)] is not field:
            continue
        if field.message_type is not None and depth > MAX_DEPTH:
            continue
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            keys, values = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            if values.message_type is None:
                target[scalar(keys, variant)] = scalar(values, variant)
            else:
                fill(target[scalar(keys, variant)], variant, depth + 1)
        elif field.message_type is not None:
            inner = target.add() if field.is_repeated else target
            inner.SetInParent()
            fill(inner, variant, depth + 1)
        elif field.is_repeated:
            target.append(scalar(field, variant))
        else:
            setattr(message, field.name, scalar(field, variant))


def scalar(field: Any, variant: int) -> Any:
    """A value that is not the field's default, but for enums in one of the variants."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return "text"
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"bytes"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.enum_type is not None:
        return field.enum_type.values[-1 - variant % len(field.enum_type.values)].number
    return NUMBERS.get(field.type, 7)


def test_every_field_that_istio_sets_is_known(peer: Path) -> None:
    """Istio's own types, filled, decode without an unknown field, and come out again whole."""
    theirs = run(peer, "-filled")
    assert {name for name, _ in theirs} == set(KINDS)
    ours = []
    for name, body in theirs:
        message = KINDS[name].message.FromString(body)
        assert_known(message)
        ours.append(f"{name} {base64.b64encode(message.SerializeToString(deterministic=True)).decode()}")
    assert run(peer, "-back", "\n".join(ours)) == theirs


def test_every_field_that_we_set_is_known_to_istio(peer: Path) -> None:
    """Our types, filled, decode with Istio's own without an unknown field, and come out again whole."""
    sent = []
    for name, kind in KINDS.items():
        for variant in range(VARIANTS):
            message = kind.message()
            fill(message, variant)
            sent.append((name, message))
    lines = (f"{name} {base64.b64encode(message.SerializeToString()).decode()}" for name, message in sent)
    back = run(peer, "-back", "\n".join(lines))
    assert [(name, KINDS[name].message.FromString(body)) for name, body in back] == sent
