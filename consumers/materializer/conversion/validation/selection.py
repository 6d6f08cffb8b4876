"""To which workloads a resource applies, and who sees it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import is_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from consumers.materializer.conversion.validation.findings import Findings, Path

_TARGETS = frozenset(
    {
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    }
)


def check_selector(labels: Mapping[str, str], path: Path) -> Findings:
    """Labels that select workloads."""
    if not labels:
        yield warning(path, "selects all workloads of the namespace: it has no labels")
    for key, value in labels.items():
        if not key:
            yield Finding(path, "a key is empty")
        if "*" in key or "*" in value:
            yield Finding((*path, key), "wildcards are not taken")


def check_policy_targets(message: Any, path: Path) -> Findings:
    """`selector`, `targetRef` and `targetRefs` of a policy."""
    if message.HasField("selector"):
        yield from check_selector(message.selector.match_labels, (*path, "selector", "matchLabels"))
    if message.HasField("targetRef"):
        yield from _check_target(message.targetRef, (*path, "targetRef"))
    for number, one in enumerate(message.targetRefs):
        yield from _check_target(one, (*path, "targetRefs", number))


def _check_target(target: Any, path: Path) -> Findings:
    if (target.group, target.kind) not in _TARGETS:
        yield Finding((*path, "kind"), f"{quoted(f'{target.group}/{target.kind}')} can't be a target")


def check_export(export_to: Sequence[str], namespace: str, path: Path, *, may_be_none: bool = False) -> Findings:
    """The namespaces that see a resource: `.` is its own, `*` are all, `~` is none."""
    seen: set[str] = set()
    for number, one in enumerate(export_to):
        key = namespace if one == "." else one
        if key in seen:
            yield Finding((*path, number), f"{quoted(one)} stands twice, by itself or as .")
        seen.add(key)
        if key != "*" and not (key == "~" and may_be_none) and not is_label(key):
            yield Finding((*path, number), f"{quoted(one)} is neither . nor * nor a namespace")
    if len(export_to) > 1 and seen & {"*", "~"}:
        yield Finding(path, "all (*) and none (~) stand alone")
