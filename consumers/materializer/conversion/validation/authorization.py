"""AuthorizationPolicy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.conditions import (
    check_accounts,
    check_condition,
    check_wildcards,
    is_port,
    path_template_fault,
)
from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import check_each, checked, subnet_fault
from consumers.materializer.conversion.validation.selection import check_policy_targets

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_DRY_RUN = "istio.io/dry-run"
_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})
_ADDRESSES = frozenset({"ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"})
_ACCOUNTS = frozenset({"service_accounts", "not_service_accounts"})
_OF_TCP = _ADDRESSES | _ACCOUNTS | {"principals", "not_principals", "namespaces", "not_namespaces"}
"""What is known of a connection that is not HTTP."""
_NOT_CUSTOM = ("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal")


def check_authorization_policy(message: Any, resource: Resource, path: Path) -> Findings:
    """`security.AuthorizationPolicy`."""
    yield from check_policy_targets(message, path)
    action, is_custom = message.Action.Name(message.action), message.action == message.CUSTOM
    if action in {"CUSTOM", "DENY"} and not message.rules:
        yield Finding((*path, "rules"), f"is required with action {action}; a rule {{}} stands for every request")
    if is_custom and message.rules and not message.provider.name:
        yield Finding((*path, "provider", "name"), "is required with action CUSTOM")
    if not is_custom and message.HasField("provider"):
        yield Finding((*path, "provider"), "goes with action CUSTOM only")
    if (dry_run := resource.annotations.get(_DRY_RUN)) is not None:
        if action not in {"ALLOW", "DENY"}:
            yield Finding(("metadata", "annotations", _DRY_RUN), "goes with actions ALLOW and DENY only")
        elif dry_run not in _BOOLEANS:
            yield Finding(("metadata", "annotations", _DRY_RUN), f"{quoted(dry_run)} is neither true nor false")
    for number, rule in enumerate(message.rules):
        place = (*path, "rules", number)
        for at, one in enumerate(getattr(rule, "from")):
            yield from _check_source(one, (*place, "from", at), is_custom=is_custom)
        for at, one in enumerate(rule.to):
            yield from _check_operation(one, (*place, "to", at))
        for at, condition in enumerate(rule.when):
            yield from check_condition(condition, (*place, "when", at))
            key = condition.key
            if is_custom and (key in _NOT_CUSTOM or key.startswith("request.auth.")):
                yield Finding((*place, "when", at, "key"), f"{key} is not taken with action CUSTOM")
        if action == "DENY":
            yield from _warn_of_tcp(rule, place)


def _check_source(one: Any, path: Path, *, is_custom: bool) -> Findings:
    place = (*path, "source")
    fields = {field.name: (field.json_name, list(values)) for field, values in one.source.ListFields()}
    if not fields:
        yield Finding(place, "must not be empty")
    for name, (written, values) in fields.items():
        where = (*place, written)
        if is_custom and name not in _ADDRESSES:
            yield Finding(where, "is not taken with action CUSTOM")
        if name in _ADDRESSES:
            yield from check_each(map(subnet_fault, values), where)
        elif name in _ACCOUNTS:
            yield from check_accounts(values, where)
        elif name in {"trust_domains", "not_trust_domains"}:
            yield from check_wildcards(values, where, without="/")
        else:
            yield from _check_not_empty(values, where)


def _check_operation(one: Any, path: Path) -> Findings:
    place = (*path, "operation")
    fields = {field.name: (field.json_name, list(values)) for field, values in one.operation.ListFields()}
    if not fields:
        yield Finding(place, "must not be empty")
    for name, (written, values) in fields.items():
        where = (*place, written)
        yield from _check_not_empty(values, where)
        for at, value in enumerate(values):
            if name in {"ports", "not_ports"} and not is_port(value):
                yield Finding((*where, at), f"{quoted(value)} is no port")
            elif name in {"paths", "not_paths"}:
                yield from checked(path_template_fault(value), (*where, at))


def _check_not_empty(values: list[str], path: Path) -> Findings:
    for at, value in enumerate(values):
        if not value:
            yield Finding((*path, at), "must not be empty")


def _warn_of_tcp(rule: Any, path: Path) -> Findings:
    """A DENY rule whose fields only HTTP has denies everything that is not HTTP."""
    sources = {field.name for one in getattr(rule, "from") for field, _ in one.source.ListFields()}
    operations = {field.name for one in rule.to for field, _ in one.operation.ListFields()}
    of_http_only = operations.isdisjoint({"ports", "not_ports"}) if operations else sources.isdisjoint(_OF_TCP)
    if (operations or sources) and of_http_only:
        yield warning(path, "denies all that is not HTTP: none of its fields is known there; state a port")
