"""Conditions of AuthorizationPolicies: attributes and their values. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted
from consumers.materializer.conversion.validation.names import check_each, subnet_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumers.materializer.conversion.validation.findings import Findings, Path

_KEYED = ("request.headers", "request.auth.claims", "experimental.envoy.filters.")
"""Attributes whose names are followed by a key in brackets."""
_KEY_IN_BRACKETS = re.compile(r"[^\[]+\[.+\]", re.DOTALL)
_ADDRESSES = frozenset({"source.ip", "remote.ip", "destination.ip"})
_PLAIN = frozenset(
    {
        *("source.namespace", "source.principal", "request.auth.principal", "request.auth.audiences"),
        *("request.auth.presenter", "connection.sni"),
    }
)
_PORT = re.compile("[0-9]{1,20}")
_MOST_ACCOUNTS = 16
_ONE, _ANY = "{*}", "{**}"
_SEGMENT = re.compile(r"[a-zA-Z0-9._~%!$&'()+,;:@=-]+")


def is_port(text: str) -> bool:
    """Whether it is a port, or 0."""
    return _PORT.fullmatch(text) is not None and int(text) <= 65535


def check_condition(condition: Any, path: Path) -> Findings:
    """`security.Condition`."""
    if not condition.key:
        yield Finding((*path, "key"), "must not be empty")
        return
    if not condition.values and not condition.not_values:
        yield Finding((*path, "values"), "values or notValues is required")
    for written, values in (("values", condition.values), ("notValues", condition.not_values)):
        if values:
            yield from _check_values(condition.key, values, path, (*path, written))


def _check_values(key: str, values: Sequence[str], path: Path, where: Path) -> Findings:
    for at, value in enumerate(values):
        if not value:
            yield Finding((*where, at), "must not be empty")
    if key.startswith(_KEYED):
        if not _KEY_IN_BRACKETS.fullmatch(key):
            yield Finding((*path, "key"), f"{quoted(key)} needs a name in brackets, as request.headers[name]")
    elif key in _ADDRESSES:
        yield from check_each(map(subnet_fault, values), where)
    elif key == "source.serviceAccount":
        yield from check_accounts(values, where)
    elif key == "source.trustDomain":
        yield from check_wildcards(values, where)
    elif key == "destination.port":
        for at, value in enumerate(values):
            if not is_port(value):
                yield Finding((*where, at), f"{quoted(value)} is no port")
    elif key not in _PLAIN:
        yield Finding((*path, "key"), f"{quoted(key)} is no attribute that Istio knows")


def check_accounts(values: Sequence[str], path: Path) -> Findings:
    """Service accounts: `name` or `namespace/name`."""
    if len(values) > _MOST_ACCOUNTS:
        yield Finding(path, f"has {len(values)} items; {_MOST_ACCOUNTS} are the most")
    for at, value in enumerate(values):
        if "*" in value or len(value) > 320 or value.count("/") > 1 or not all(value.split("/")):
            yield Finding((*path, at), f"{quoted(value)} is not of the form account or namespace/account")


def check_wildcards(values: Sequence[str], path: Path, *, without: str = "") -> Findings:
    """Texts in which one * may stand, at the beginning or the end."""
    for at, value in enumerate(values):
        if not value or "*" in value[1:-1] or value.count("*") > 1 or (without and without in value):
            yield Finding((*path, at), f"{quoted(value)} is not of the form text, *text or text*")


def path_template_fault(path: str) -> str | None:
    """What is wrong with a path in which `{*}` stands for a part and `{**}` for the rest."""
    is_template, ended = _ONE in path or _ANY in path, False
    for part in path.strip("/").split("/"):
        if part in {_ONE, _ANY}:
            if ended:
                return f"{quoted(path)} goes on after {_ANY}"
            ended = part == _ANY
        elif "{" in part or "}" in part:
            return f"{quoted(path)} has braces that are neither {_ONE} nor {_ANY}"
        elif is_template and not _SEGMENT.fullmatch(part):
            return f"{quoted(path)} has a part that is no text of a path: {quoted(part)}"
    return None
