"""`shiplog audit why`: the chain from Nacos to the Pilots for one service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.audit.delivery_log import DeliveryLog
from consumers.audit.differences import endpoints_of
from consumers.audit.events import describe_event, is_about
from consumers.audit.trails import follow
from consumers.materializer.claimed_names import plain_name
from consumers.materializer.conversion import REVISION, SERVICE_ENTRIES, revision_of
from schemas.avro_codec import codecs
from schemas.events import Namespace, ServiceKey
from shiplog.audit.at import describe
from shiplog.audit.logs import open_namespace, version_at
from shiplog.audit.options import NamespaceOption, TimeOption, moment
from shiplog.audit.output import AuditOutput, progress, show
from shiplog.audit.times import format_ms
from shiplog.audit.who import loss_rows, sending_row
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog, Rebuilt

_DEFAULT_GROUP = "DEFAULT_GROUP"
_AFTER_MS = 60_000


def why(
    namespace: NamespaceOption,
    service: Annotated[str, typer.Option("--service", "-s", help="GROUP@@NAME, or NAME in the default group.")],
    time: TimeOption,
    limit: Annotated[int, typer.Option(min=1, help="So many events, versions and deliveries of each.")] = 10,
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """Why a service looked as it did: Nacos's events, holds and decisions, versions, deliveries.

    Example: shiplog audit why -n orders -s checkout -t "14:03 Europe/Berlin"
    """
    settings = read_command_settings(config)
    time_ms = moment(time)
    group, _, name = service.rpartition("@@")
    key = ServiceKey(group or _DEFAULT_GROUP, name)
    with open_namespace(settings, namespace) as log:
        published = version_at(log, time_ms)
        revision = revision_of(published.manifest.converter, settings.conversion, settings.materializer.guard)
        resource = plain_name(revision or REVISION, settings.conversion, Namespace(namespace), key).resource
        with progress("events folded", log.events_to_read(published)) as each:
            snapshot = log.rebuild(published, each)
        upto = published.manifest.folded_to
        events = log.events_before(upto, lambda event: is_about(event.body, key), limit)
        versions = _versions(log, published, resource, limit)
        began_ms = versions[-1].at_ms if versions else published.at_ms
        with DeliveryLog(settings.kafka, codecs(settings.registry())) as deliveries:
            trail = follow(deliveries.between(began_ms, time_ms + _AFTER_MS))
        of_collection = [one for one in trail.sendings if one.sent.collection == SERVICE_ENTRIES]
        about = describe(log, published, time_ms)
    show(
        {
            "asked_for": format_ms(time_ms),
            "service": f"{key.group}@@{key.service}",
            "resource": resource,
            **_content(snapshot, resource),
            "events_of_nacos": [describe_event(one) for one in events],
            "holds": [hold for hold in about["holds"] if key.service in hold or "service" not in hold],
            "decisions": about["decisions"],
            "links": about["links"],
            "versions": [
                {
                    "published_at": format_ms(one.at_ms),
                    "version": one.manifest.version,
                    "reason": one.manifest.reason,
                    "change": _change(one, resource),
                }
                for one in versions
            ],
            "version_then": about["version"],
            "verdict": str(snapshot.verdict),
            "reason": snapshot.reason,
            "deliveries": [sending_row(one) for one in of_collection[:limit]],
            "not_recorded": loss_rows(trail, time_ms),
        },
        output,
    )


def _content(snapshot: Rebuilt, resource: str) -> dict[str, Any]:
    found = [record for (_, name), record in snapshot.records.items() if name == resource]
    if not found:
        return {"endpoints": "none: there was no such resource then"}
    return {
        "endpoints": [
            {"endpoint": name, "datacenter": datacenter, "weight": entry.weight}
            for (datacenter, name), entry in endpoints_of(found[0]).items()
        ]
    }


def _versions(log: NamespaceLog, upto: Published, resource: str, limit: int) -> list[Published]:
    """The last versions that changed the resource, oldest first."""
    found: list[Published] = []
    offset = upto.offset + 1
    while len(found) < limit:
        one = log.before(offset, lambda other: bool(_change(other, resource)))
        if one is None:
            break
        found.append(one)
        offset = one.offset
    return found[::-1]


def _change(published: Published, resource: str) -> str:
    return next((str(one.kind) for one in published.manifest.changes if one.name == resource), "")
