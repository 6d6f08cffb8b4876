"""`shiplog audit who`: which Pilots had a version, or an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumers.audit.delivery_log import DeliveryLog
from consumers.audit.differences import endpoints_of
from consumers.audit.trails import follow
from consumers.materializer.conversion import SERVICE_ENTRIES
from schemas.avro_codec import codecs
from shiplog.audit.logs import open_namespace, version_named
from shiplog.audit.options import NamespaceOption, moment
from shiplog.audit.output import AuditOutput, show
from shiplog.audit.pilot_view import version_in
from shiplog.audit.times import format_ms, format_us
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog
    from consumers.audit.trails import Sending, Trail
    from schemas.records import Delivery
    from shiplog.settings import Settings

_CLOCKS_DIFFER_MS = 60_000
_DAY_MS = 24 * 3_600_000


def who(
    namespace: NamespaceOption,
    version: Annotated[
        str, typer.Option("--version", help="A version of the namespace, as `timeline` shows it.")
    ] = "",
    endpoint: Annotated[str, typer.Option(help="IP:PORT of a service's endpoint; with --time.")] = "",
    time: Annotated[str, typer.Option("--time", "-t", help="For --endpoint.")] = "now",
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """Which Pilots had a version, or an endpoint: when it was sent and acknowledged, refusals, gaps in the record.

    Example: shiplog audit who -n orders --endpoint 10.0.0.7:8080 --time "2h ago"
    """
    if bool(version) == bool(endpoint):
        raise typer.BadParameter("give either --version or --endpoint")
    settings = read_command_settings(config)
    with (
        open_namespace(settings, namespace) as log,
        DeliveryLog(settings.kafka, codecs(settings.registry())) as deliveries,
    ):
        answer = (
            _had_version(log, deliveries, version, settings)
            if version
            else _had_endpoint(log, deliveries, endpoint, moment(time), settings)
        )
    show(answer, output)


def _had_version(log: NamespaceLog, deliveries: DeliveryLog, text: str, settings: Settings) -> dict[str, Any]:
    wanted = _first_of_its_content(log, version_named(log, text))
    following = next(
        (one for one in log.published(wanted.offset + 1) if one.manifest.digest != wanted.manifest.digest), None
    )
    end_ms = moment("now") if following is None else following.at_ms + _CLOCKS_DIFFER_MS
    trail = follow(deliveries.between(wanted.at_ms - _CLOCKS_DIFFER_MS, end_ms))
    had = [one for one in trail.sendings if _is_seen(settings, log, one) and _is_of(log, one, wanted, following)]
    return {
        "namespace": log.namespace,
        "version": wanted.manifest.version,
        "digest": wanted.manifest.digest,
        "published_at": format_ms(wanted.at_ms),
        "replaced_at": None if following is None else format_ms(following.at_ms),
        "pilots": [sending_row(one) for one in had],
        "not_recorded": loss_rows(trail, end_ms),
        "note": ""
        if had
        else "no Pilot was sent it: later versions came before their next push, or none was connected",
    }


def _had_endpoint(
    log: NamespaceLog, deliveries: DeliveryLog, endpoint: str, time_ms: int, settings: Settings
) -> dict[str, Any]:
    trail = follow(deliveries.between(time_ms - _DAY_MS, time_ms + _CLOCKS_DIFFER_MS))
    rows = []
    for pilot in trail.pilots():
        sending = trail.had(pilot, SERVICE_ENTRIES, time_ms * 1000)
        if sending is None or not _is_seen(settings, log, sending):
            continue
        published = version_in(log, sending)
        if published is None:
            continue
        snapshot = log.rebuild(published)
        services = [
            record.name
            for (collection, _), record in sorted(snapshot.records.items())
            if collection == SERVICE_ENTRIES and any(name == endpoint for _, name in endpoints_of(record))
        ]
        rows.append(
            {
                "had_it": bool(services),
                "services": services,
                "snapshot": str(snapshot.verdict),
                **sending_row(sending),
            }
        )
    return {
        "namespace": log.namespace,
        "endpoint": endpoint,
        "asked_for": format_ms(time_ms),
        "pilots": rows,
        "not_recorded": loss_rows(trail, time_ms),
        "note": "Pilots that were sent nothing in the day before are not shown",
    }


def sending_row(sending: Sending) -> dict[str, Any]:
    """A push, and what came of it."""
    sent, refused = sending.sent, sending.refused
    return {
        "pilot": sent.pilot,
        "view": sent.view,
        "protocol": sent.protocol,
        "gateway": sent.gateway,
        "collection": sent.collection,
        "bytes": sent.bytes,
        "sent_at": format_us(sent.at),
        "acknowledged_at": sending.acknowledged_at and format_us(sending.acknowledged_at),
        "refused": refused and f"{refused.code}: {refused.message}",
    }


def _first_of_its_content(log: NamespaceLog, published: Published) -> Published:
    """The version that first had that content, of those that follow each other: only content is pushed."""
    other = log.before(published.offset, lambda one: one.manifest.digest != published.manifest.digest)
    return next(log.published(0 if other is None else other.offset + 1))


def _is_of(log: NamespaceLog, sending: Sending, wanted: Published, following: Published | None) -> bool:
    """Whether the version was the namespace's when the push was made."""
    return _has(log, sending.sent, wanted) and (following is None or not _has(log, sending.sent, following))


def _has(log: NamespaceLog, sent: Delivery, published: Published) -> bool:
    needed = published.manifest.folded_to.items()
    return all(sent.folded_to.get(f"{topic}-{log.number}", -1) >= offset for topic, offset in needed)


def _is_seen(settings: Settings, log: NamespaceLog, sending: Sending) -> bool:
    view = settings.gateway.make_views().publishers.get(sending.sent.view)
    return view is None or view.view.selection.has_namespace(log.namespace)


def loss_rows(trail: Trail, until_ms: int) -> list[dict[str, Any]]:
    """Where the record up to a moment may not be whole."""
    return [
        {"gateway": one.gateway, "from": format_us(one.from_us), "to": format_us(one.to_us), "why": one.why}
        for one in trail.losses
        if one.from_us < until_ms * 1000
    ]
