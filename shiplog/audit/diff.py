"""`shiplog audit diff`: what changed between two versions, and what caused it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.audit.differences import differences
from consumers.audit.events import describe_event
from consumers.audit.verdict import Verdict
from consumers.materializer.conversion import SERVICE_ENTRIES
from shiplog.audit.logs import open_namespace, version_at, version_named
from shiplog.audit.options import NamespaceOption, moment
from shiplog.audit.output import AuditOutput, progress, show
from shiplog.audit.times import format_ms
from shiplog.errors import CommandError, NotVerifiedError
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog


def diff(
    namespace: NamespaceOption,
    from_: Annotated[str, typer.Option("--from", help="A version, or a time.")],
    to: Annotated[str, typer.Option("--to", help="A version, or a time.")] = "now",
    limit: Annotated[int, typer.Option(min=1, help="So many events are named, the last ones.")] = 200,
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """The resources and endpoints that differ between two versions, and the events that caused it.

    Example: shiplog audit diff -n orders --from "1h ago" --to now --output json
    """
    settings = read_command_settings(config)
    with open_namespace(settings, namespace) as log:
        first, last = named_or_at(log, from_), named_or_at(log, to)
        with progress("events folded", log.events_to_read(first) + log.events_to_read(last)) as each:
            before, after = log.rebuild(first, each), log.rebuild(last, each)
        found = differences(before.records, after.records)
        caused = list(log.events(first.manifest.version, last.manifest.version))
    touched = {one.name for one in found}
    answer: dict[str, Any] = {
        "namespace": namespace,
        "from": _version(first, str(before.verdict)),
        "to": _version(last, str(after.verdict)),
        "resources": [
            {
                "change": str(one.kind),
                "collection": one.collection,
                "name": one.name,
                "besides_endpoints": one.head_differs,
            }
            for one in found
        ],
        "endpoints": [
            {
                "service": one.name,
                "change": str(e.kind),
                "endpoint": e.endpoint,
                "datacenter": e.datacenter,
                "what": e.detail,
            }
            for one in found
            if one.collection == SERVICE_ENTRIES
            for e in one.endpoints
        ],
        "events": [describe_event(one) for one in caused[-limit:]],
        "events_not_shown": max(0, len(caused) - limit),
        "decisions": [
            {"decision": type(d.event.body).__name__, "author": d.event.author, "why": d.event.reason}
            for d in last.manifest.decisions
            if d not in first.manifest.decisions
        ],
    }
    if not touched:
        answer["note"] = "nothing differs"
    show(answer, output)
    for one in (before, after):
        if one.verdict is not Verdict.VERIFIED:
            raise NotVerifiedError(f"{one.verdict} {one.published.manifest.version}: {one.reason}")


def named_or_at(log: NamespaceLog, text: str) -> Published:
    """The version that a text names, or that stood at the time that it names."""
    try:
        time_ms = moment(text)
    except CommandError:
        return version_named(log, text)
    return version_at(log, time_ms)


def _version(published: Published, verdict: str) -> dict[str, Any]:
    manifest = published.manifest
    return {
        "published_at": format_ms(published.at_ms),
        "digest": manifest.digest,
        "verdict": verdict,
        **manifest.version,
    }
