"""`shiplog audit at`: a snapshot as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

from consumers.audit.differences import as_istio, endpoints_of
from consumers.audit.verdict import Verdict
from consumers.materializer.conversion import SERVICE_ENTRIES
from schemas.avro_codec import codecs
from schemas.events import Namespace
from shiplog.audit.logs import open_namespace, readable, version_at
from shiplog.audit.options import NamespaceOption, TimeOption, moment
from shiplog.audit.output import AuditOutput, progress, show
from shiplog.audit.pilot_view import PilotAudit
from shiplog.audit.times import format_ms, format_us
from shiplog.control.client import ControlClient
from shiplog.errors import NotVerifiedError
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog, Rebuilt
    from schemas.records import ResourceRecord
    from shiplog.settings import Settings


def at(
    namespace: NamespaceOption,
    time: TimeOption,
    pilot: Annotated[
        str, typer.Option(help="As this Pilot had it: its identity, its node id, or its address.")
    ] = "",
    collection: Annotated[str, typer.Option(help="Of which --pilot was sent pushes.")] = SERVICE_ENTRIES,
    resource: Annotated[str, typer.Option(help="Only those whose names hold this text.")] = "",
    format_: Annotated[
        Literal["summary", "istio-yaml"], typer.Option("--format", help="istio-yaml: what kubectl would apply")
    ] = "summary",
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """The snapshot as it was, rebuilt from the log and compared with the digest that was recorded.

    Exit code 1 unless it is VERIFIED.

    Example: shiplog audit at -n orders -t "2026-11-23 14:03 Europe/Berlin" --resource checkout --format istio-yaml
    """
    settings = read_command_settings(config)
    time_ms = moment(time)
    if pilot:
        answer, snapshot = _of_pilot(settings, namespace, pilot, collection, time_ms)
    else:
        with open_namespace(settings, namespace) as log:
            published = version_at(log, time_ms)
            with progress("events folded", log.events_to_read(published)) as each:
                snapshot = log.rebuild(published, each)
            answer = {"asked_for": format_ms(time_ms), **describe(log, published, time_ms)}
            answer |= {"verdict": str(snapshot.verdict), "reason": snapshot.reason}
            if snapshot.verdict is Verdict.MISMATCH:
                answer["resources_that_differ"] = _differing(settings, published, snapshot)
            answer["events_read"] = snapshot.events_read
    records = [one for key, one in sorted((snapshot.records if snapshot else {}).items()) if resource in key[1]]
    if format_ == "istio-yaml":
        typer.echo(yaml.safe_dump_all([as_istio(one) for one in records], sort_keys=False).rstrip())
        typer.echo(f"{answer['verdict']} {answer.get('reason') or ''}".rstrip(), err=True)
    else:
        show(answer | {"content": [_row(one) for one in records]}, output)
    if answer["verdict"] != Verdict.VERIFIED:
        raise NotVerifiedError(f"{answer['verdict']}: {answer.get('reason') or ''}")


def describe(log: NamespaceLog, published: Published, time_ms: int) -> dict[str, Any]:
    """A version as answers show it."""
    manifest = published.manifest
    skew_ms = log.skew_ms(time_ms)
    return {
        "namespace": manifest.namespace,
        "version": manifest.version,
        "digest": manifest.digest,
        "published_at": format_ms(published.at_ms),
        "last_change_seen_at": format_us(manifest.observed_at),
        "resources": manifest.resources,
        "converter": manifest.converter,
        "stands_by_decision": manifest.frozen,
        "holds": list(manifest.holds),
        "decisions": [
            {"decision": type(d.event.body).__name__, "author": d.event.author, "why": d.event.reason}
            for d in manifest.decisions
        ],
        "links": {name: str(link) for name, link in manifest.links.items()},
        "missing_datacenters": list(manifest.missing),
        "clocks": f"later versions are dated back by up to {skew_ms} ms" if skew_ms > 0 else "",
    }


def _of_pilot(
    settings: Settings, namespace: str, pilot: str, collection: str, time_ms: int
) -> tuple[dict[str, Any], Rebuilt | None]:
    with readable(settings), PilotAudit(settings) as audit:
        found = audit.at(pilot, collection, time_ms)
    answer: dict[str, Any] = {"asked_for": format_ms(time_ms), "pilot": pilot, "collection": collection}
    if found.sending is not None:
        sent = found.sending.sent
        answer |= {
            "view": sent.view,
            "gateway": sent.gateway,
            "address": sent.address,
            "delivered_version": sent.version,
            "sent_at": format_us(sent.at),
            "acknowledged_at": format_us(found.sending.acknowledged_at or 0),
        }
    snapshot = found.snapshots.get(Namespace(namespace))
    if snapshot is not None:
        answer["version_of_namespace"] = snapshot.published.manifest.version
    answer |= {"verdict": str(found.verdict), "reason": found.reason}
    if found.sending is not None and snapshot is None:
        answer["note"] = f"{namespace} is not in its view, or was not published yet"
    return answer, snapshot


def _row(record: ResourceRecord) -> dict[str, Any]:
    return {
        "collection": record.collection,
        "name": record.name,
        "version": record.version,
        "endpoints": len(endpoints_of(record)) if record.collection == SERVICE_ENTRIES else None,
    }


def _differing(settings: Settings, published: Published, snapshot: Rebuilt) -> list[str]:
    """Names, where the version is still the published one; Kafka keeps no resources of former versions."""
    with ControlClient(settings.kafka, codecs(settings.registry()), "shiplog-audit") as client:
        recorded = client.resources(published.manifest.namespace)
        if client.manifests()[published.manifest.namespace].digest != published.manifest.digest:
            return []
    given = {name: record.version for name, record in snapshot.records.items()}
    return [" ".join(n) for n in sorted(given.keys() | recorded.keys()) if given.get(n) != recorded.get(n)]
