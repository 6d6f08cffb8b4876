"""Checks single fields by the tables of facts: what an API server that holds Istio's schemas refuses. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from consumers.materializer.conversion.validation.facts import MANY, MessageFacts
from consumers.materializer.conversion.validation.findings import FieldError, quoted
from consumers.materializer.conversion.validation.networking_facts import NETWORKING
from consumers.materializer.conversion.validation.security_facts import (
    EXTENSIONS,
    PROXY,
    SECURITY,
    TELEMETRY,
    TYPE,
)

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.facts import Facts
    from consumers.materializer.conversion.validation.findings import Path

FACTS = {
    f"istio.{package}.{name}": facts
    for package, table in (
        ("networking.v1alpha3", NETWORKING),
        ("networking.v1beta1", PROXY),
        ("type.v1beta1", TYPE),
        ("security.v1beta1", SECURITY),
        ("telemetry.v1alpha1", TELEMETRY),
        ("extensions.v1alpha1", EXTENSIONS),
    )
    for name, facts in table.items()
}
"""By the full name of a message."""
_NO_FACTS = MessageFacts()
_UNITS = {
    "istio.networking.v1alpha3.CorsPolicy.max_age": 10**9,
    "istio.networking.v1alpha3.LoadBalancerSettings.warmup_duration_secs": 1,
    "istio.telemetry.v1alpha1.Metrics.reporting_interval": 1,
}
"""Durations that are not counted in whole milliseconds: their unit, in nanoseconds."""
_MAY_BE_ZERO = frozenset(
    f"istio.networking.v1alpha3.{field}"
    for field in (
        "LoadBalancerSettings.ConsistentHashLB.HTTPCookie.ttl",
        "ConnectionPoolSettings.TCPSettings.idle_timeout",
        "TrafficPolicy.RetryBudget.budget_interval",
    )
)
_LEAST_DURATION_NS = 10**6
_LONGEST_DURATION_NS = 2**63 - 1
"""Go's durations, about 292 years: the API server reads no longer one."""
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_BASE64 = re.compile("(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_FRACTIONS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})


def check_fields(message: str, present: dict[str, Any], paths: dict[str, Path], path: Path) -> None:
    """Whether a message has what it needs, and its fields values that they take.

    `present` are its fields by their names in protobuf, without those that are null.

    Raises:
        FieldError: the first that is not so.
    """
    facts = FACTS.get(message, _NO_FACTS)
    for name in facts.required:
        if name not in present:
            raise FieldError(path, f"{_json_name(name)} is required")
    for group in facts.one_of:
        found = [name for name in group if name in present]
        if len(found) > 1:
            named = " and ".join(_json_name(name) for name in found)
            raise FieldError(paths[found[1]], f"{named} can't stand together")
    for rule in facts.excluded:
        found = present.get(rule.field, rule.default)
        if rule.other in present and isinstance(found, str) and rule.pattern.fullmatch(found):
            raise FieldError(paths[rule.other], f"can't be set where {_json_name(rule.field)} is {quoted(found)}")
    for name, one in facts.fields.items():
        if name in present:
            _check(one, present[name], paths[name])
    for name, by in facts.unique:
        _check_unique(present.get(name), by, paths.get(name, path))


def check_type(field: FieldDescriptor, value: Any, path: Path) -> None:
    """Whether a value is of the type that its field has in Istio's schemas, which read no numbers from texts.

    Raises:
        FieldError: it is of another.
    """
    kind = field.cpp_type
    if field.enum_type is not None:
        if not isinstance(value, str) or value not in field.enum_type.values_by_name:
            known = ", ".join(one.name for one in field.enum_type.values)
            raise FieldError(path, f"{quoted(value)} is none of {known}")
    elif kind in _RANGES:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise FieldError(path, f"{quoted(value)} is no whole number")
        least, most = _RANGES[kind]
        if not least <= value <= most:
            raise FieldError(path, f"{quoted(value)} is not {least} to {most}")
    elif kind in _FRACTIONS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FieldError(path, f"{quoted(value)} is no number")
    elif kind == FieldDescriptor.CPPTYPE_BOOL:
        if not isinstance(value, bool):
            raise FieldError(path, f"{quoted(value)} is neither true nor false")
    elif not isinstance(value, str):
        raise FieldError(path, f"must be a text; put {quoted(value)} in quotes")
    elif field.type == FieldDescriptor.TYPE_BYTES and not _BASE64.fullmatch(value):
        raise FieldError(path, f"{quoted(value)} is no Base64, with its padding")


def check_duration(field: FieldDescriptor, nanoseconds: int, path: Path) -> None:
    """Whether a duration is one that its field takes: a millisecond at least, and of whole ones, mostly.

    Raises:
        FieldError: it is not.
    """
    if abs(nanoseconds) > _LONGEST_DURATION_NS:
        raise FieldError(path, "is longer than 292 years")
    name = field.full_name
    if name in _MAY_BE_ZERO and not name.endswith("idle_timeout"):
        return
    if name in _MAY_BE_ZERO and 0 <= nanoseconds < _LEAST_DURATION_NS:
        return
    if nanoseconds < _LEAST_DURATION_NS:
        raise FieldError(path, "must be 1ms or longer")
    unit = _UNITS.get(name, _LEAST_DURATION_NS)
    if nanoseconds % unit:
        raise FieldError(path, f"must be of whole {'seconds' if unit == 10**9 else 'milliseconds'}")


def _check(facts: Facts, value: Any, path: Path) -> None:
    """A field's value; of a list or map each part."""
    if isinstance(value, dict | list):
        if facts.size is not None:
            _check_size(facts.size, len(value), path)
        if facts.keys is not None and isinstance(value, dict):
            for key in value:
                _check_single(facts.keys, key, (*path, key))
        for at, one in value.items() if isinstance(value, dict) else enumerate(value):
            _check_single(facts, one, (*path, at))
    else:
        _check_single(facts, value, path)


def _check_size(size: tuple[int, int], found: int, path: Path) -> None:
    if found < size[0]:
        raise FieldError(path, "must not be empty")
    if found > size[1]:
        raise FieldError(path, f"has {found} items; {size[1]} are the most")


def _check_single(facts: Facts, value: Any, path: Path) -> None:
    if isinstance(value, str):
        if facts.length is not None and not facts.length[0] <= len(value) <= facts.length[1]:
            raise FieldError(path, _wrong_length(facts.length, len(value)))
        if facts.pattern is not None and not facts.pattern.fullmatch(value):
            raise FieldError(path, f"{quoted(value)} is no {facts.kind}")
        if facts.number is not None:
            value = _number(value)
    if facts.number is not None and isinstance(value, int | float):
        least, most = facts.number
        if not least <= value <= most:
            if most == 0:
                raise FieldError(path, "must not be set")
            span = f"{least} or more" if most == MANY else f"{least} to {most}"
            raise FieldError(path, f"{quoted(value)} is not {span}")


def _wrong_length(length: tuple[int, int], found: int) -> str:
    if length[1] == 0:
        return "must not be set"
    return "must not be empty" if found < length[0] else f"has {found} characters; {length[1]} are the most"


def _number(key: str) -> float:
    """A map's key as a number; none that any range has where it is none."""
    try:
        return int(key) if len(key) < 20 else math.nan
    except ValueError:
        return math.nan


def _check_unique(value: Any, by: str, path: Path) -> None:
    seen = set()
    for number, one in enumerate(value if isinstance(value, list) else ()):
        found = one.get(by, one.get(_json_name(by))) if isinstance(one, dict) else None
        if found is None or isinstance(found, dict | list):
            continue
        if found in seen:
            raise FieldError((*path, number, by), f"{quoted(found)} stands in an earlier item too")
        seen.add(found)


def _json_name(name: str) -> str:
    """A field's name as YAML has it."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
