"""A resource's fields as protobuf's JSON reader wants them: known, durations in seconds, numbers in range. Pure.

That reader raises other errors than its own for some numbers: those are refused here, with the field's name. If
`strict`, what Istio's schemas refuse of single fields is refused too; the first revision was not.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from consumers.materializer.conversion.validation.findings import FieldError
from consumers.materializer.conversion.validation.schema import check_duration, check_fields, check_type

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

    from consumers.materializer.conversion.validation.findings import Path

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_DIGITS = re.compile("[0-9]{1,19}")
_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_MAX_DURATION_TEXT = 1000
_MAX_DURATION_S = 315_576_000_000
"""Protobuf's limit: 10,000 years. https://protobuf.dev/reference/protobuf/google.protobuf/#duration"""
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})
_WRAPPED = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def fit(message: Descriptor, value: Any, path: Path, *, strict: bool = True) -> Any:
    """The value as protobuf's JSON wants it.

    Raises:
        FieldError: a field that the message does not have, a duration that is none, or a number out of range; and,
            if `strict`, what Istio's schemas refuse of single fields.
    """
    if message.full_name in _WRAPPED:
        return _scalar(message.fields_by_name["value"], value, path, strict=strict)
    if message.full_name.startswith("google.protobuf."):
        return _free(value, path, strict=strict)
    if not isinstance(value, dict):
        raise FieldError(path, f"must be a map with the fields of {message.name}")
    fitted, present, paths = {}, {}, {}
    for key, inner in value.items():
        field = message.fields_by_camelcase_name.get(key) or message.fields_by_name.get(key)
        if field is None:
            raise FieldError((*path, key), f"{message.name} has no such field")
        if inner is not None:
            fitted[key] = _field(field, inner, (*path, key), strict=strict)
            present[field.name], paths[field.name] = inner, (*path, key)
    if strict:
        check_fields(message.full_name, present, paths, path)
    return fitted


def _field(field: FieldDescriptor, value: Any, path: Path, *, strict: bool) -> Any:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        values = inner.fields_by_name["value"]
        if not isinstance(value, dict):
            raise FieldError(path, "must be a map")
        if strict and inner.fields_by_name["key"].cpp_type != FieldDescriptor.CPPTYPE_STRING:
            _check_numbers(value, path)
        return {key: _field(values, one, (*path, key), strict=strict) for key, one in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise FieldError(path, "must be a list")
        return [_single(field, one, (*path, number), strict=strict) for number, one in enumerate(value)]
    return _single(field, value, path, strict=strict)


def _single(field: FieldDescriptor, value: Any, path: Path, *, strict: bool) -> Any:
    if field.message_type is None:
        return _scalar(field, value, path, strict=strict)
    if field.message_type.full_name == "google.protobuf.Duration":
        return _duration(field, value, path, strict=strict)
    return fit(field.message_type, value, path, strict=strict)


def _scalar(field: FieldDescriptor, value: Any, path: Path, *, strict: bool) -> Any:
    """The value itself, unless it is a number that the reader would stumble over."""
    if strict:
        check_type(field, value, path)
    if field.cpp_type in _FLOATS:
        return _double(value, path, strict=strict)
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError(path, f"{value} is no whole number")
    return value


def _free(value: Any, path: Path, *, strict: bool) -> Any:
    """What stands in a Struct, a ListValue or a Value: of any shape, its numbers doubles."""
    if isinstance(value, dict):
        return {key: _free(one, (*path, key), strict=strict) for key, one in value.items()}
    if isinstance(value, list):
        return [_free(one, (*path, number), strict=strict) for number, one in enumerate(value)]
    if isinstance(value, str):
        return value
    return _double(value, path, strict=strict)


def _double(value: Any, path: Path, *, strict: bool) -> Any:
    """The value itself; what is no number at all is for the reader to refuse."""
    try:
        number = float(value)
    except OverflowError as error:
        raise FieldError(path, "is too large a number") from error
    except (TypeError, ValueError):
        return value
    if strict and not math.isfinite(number):
        raise FieldError(path, f"{str(value)[:50]} is no finite number")
    return value


def _check_numbers(value: dict[str, Any], path: Path) -> None:
    """A map whose keys are numbers: Python reads more texts as such than Istio."""
    for key in value:
        if not _DIGITS.fullmatch(key):
            raise FieldError((*path, key), f"{key[:50]} is no number")


def _duration(field: FieldDescriptor, value: Any, path: Path, *, strict: bool) -> str:
    """Go's way of writing durations, which Istio's users know, as seconds."""
    if strict and not isinstance(value, str):
        raise FieldError(path, f"{str(value)[:50]} is no duration such as 1.5s, 100ms or 1h30m")
    text = str(value)
    if len(text) > _MAX_DURATION_TEXT:
        raise FieldError(path, f"{text[:50]}... is no duration: it has {len(text)} characters")
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text[strict and text.startswith("+") :])
    parts = _DURATION_PART.findall(digits)
    if digits != "0" and (not parts or "".join(number + unit for number, unit in parts) != digits):
        raise FieldError(path, f"{text} is no duration such as 1.5s, 100ms or 1h30m")
    seconds = sum((Decimal(number) * _UNITS[unit] for number, unit in parts), Decimal(0))
    if seconds >= _MAX_DURATION_S + 1:
        raise FieldError(path, f"{text} is longer than {_MAX_DURATION_S} s")
    if strict:
        check_duration(field, int(seconds * 10**9) * (-1 if sign else 1), path)
    return f"{sign}{seconds.quantize(Decimal('1e-9')):f}s"
