"""Telemetry, ProxyConfig and WasmPlugin. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, warning
from consumers.materializer.conversion.validation.names import checked
from consumers.materializer.conversion.validation.selection import check_policy_targets, check_selector
from consumers.materializer.conversion.validation.urls import plugin_fault

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource


def check_telemetry(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`telemetry.Telemetry`."""
    yield from check_policy_targets(message, path)
    if len(message.tracing) > 1:
        yield warning((*path, "tracing", 1), "only the first is used")
    for number, tracing in enumerate(message.tracing):
        place = (*path, "tracing", number)
        if len(tracing.providers) > 1:
            yield warning((*place, "providers", 1), "only the first is used")
        if "" in tracing.custom_tags:
            yield Finding((*place, "customTags"), "a tag has no name")
    for number, metrics in enumerate(message.metrics):
        for at, override in enumerate(metrics.overrides):
            place = (*path, "metrics", number, "overrides", at, "tagOverrides")
            for name, tag in override.tag_overrides.items():
                if not name:
                    yield warning(place, "a tag has no name")
                if tag.operation == tag.UPSERT and not tag.value:
                    yield Finding((*place, name, "value"), "is required with operation UPSERT, the default")
                elif tag.operation == tag.REMOVE and tag.value:
                    yield Finding((*place, name, "value"), "can't be set with operation REMOVE")


def check_proxy_config(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`networking.ProxyConfig`."""
    if message.HasField("selector"):
        yield from check_selector(message.selector.match_labels, (*path, "selector", "matchLabels"))


def check_wasm_plugin(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all checks
    """`extensions.WasmPlugin`."""
    yield from check_policy_targets(message, path)
    yield from checked(plugin_fault(message.url), (*path, "url"))
    for number, variable in enumerate(message.vm_config.env):
        if variable.value_from != 0 and variable.value:  # HOST
            yield Finding((*path, "vmConfig", "env", number, "value"), "goes with valueFrom INLINE only")
