"""Headers of HTTP: their names, and values with Envoy's variables. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.conversion.validation.findings import Findings, Path

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_PSEUDO = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CLAIM = re.compile(r"@request\.auth\.claims(?:\..+|\[.+\])", re.IGNORECASE | re.DOTALL)
_PRINTABLE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_STRING = r'(?:\\.|[^\\)"])*'
_VARIABLE = (
    r"%[^%(]+%"
    rf'|%[^%(]*\( *(?:\[ *"|[^ \[]){_STRING}(?:" *, *"{_STRING})*(?:\)|" *\] *\)) *%'
)
"""`%NAME%`, `%NAME(text)%` or `%NAME(["a", "b"])%`."""
_VALUE = re.compile(rf"(?:[^%]|%%|{_VARIABLE})*", re.DOTALL)


def is_claim(name: str) -> bool:
    """Whether a match on a header looks at a claim of the request's token instead."""
    return _CLAIM.fullmatch(name) is not None


def matched_name_fault(name: str) -> str | None:
    """What is wrong with the name of a header that a request is matched by."""
    if is_claim(name) or name in _PSEUDO or _NAME.fullmatch(name):
        return None
    return f"{quoted(name)} is no name of a header"


def value_fault(value: str) -> str | None:
    """What is wrong with a value that is set."""
    if not _PRINTABLE.fullmatch(value):
        return f"{quoted(value)} has control characters"
    if not _VALUE.fullmatch(value):
        return f"{quoted(value)} has a % that begins no variable; %% stands for a %"
    return None


def is_authority(name: str) -> bool:
    """Whether the header names the host that is asked."""
    return name.lower() in {":authority", "host"}


def check_operations(headers: Any, path: Path) -> Findings:
    """`networking.Headers`: what is set, added and removed; only of a request the host may be set."""
    for side in ("request", "response"):
        if not headers.HasField(side):
            continue
        operations, place = getattr(headers, side), (*path, side)
        for kind in ("set", "add"):
            yield from _check_values(getattr(operations, kind), (*place, kind), may_be_host=side == "request")
        for number, name in enumerate(operations.remove):
            yield from _check_name(name, (*place, "remove", number), may_be_host=False)


def authority_values(headers: Any) -> list[str]:
    """The hosts that the operations on a request set."""
    operations = (headers.request.set, headers.request.add)
    return [value for kind in operations for name, value in kind.items() if is_authority(name)]


def _check_values(values: Mapping[str, str], path: Path, *, may_be_host: bool) -> Findings:
    for name, value in values.items():
        yield from _check_name(name, (*path, name), may_be_host=may_be_host)
        if (fault := value_fault(value)) is not None:
            yield Finding((*path, name), fault)


def _check_name(name: str, path: Path, *, may_be_host: bool) -> Findings:
    if not name:
        yield Finding(path, "a header has no name")
    elif (name.startswith(":") or is_authority(name)) and not (may_be_host and is_authority(name)):
        yield Finding(path, f"the header {quoted(name)} can't be changed")
