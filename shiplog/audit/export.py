"""`shiplog audit export`: a piece of the log that can be checked without Kafka."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from consumers.audit.bundle import Logged, seal, settings_of, to_avro, write_records
from consumers.audit.delivery_log import DeliveryLog
from schemas.avro_codec import codecs
from schemas.errors import UndecodableRecordError
from schemas.topics import CONTROL_EVENTS, DELIVERIES, SNAPSHOT_HISTORY
from shiplog import __version__
from shiplog.audit.logs import open_namespace
from shiplog.audit.options import FromOption, NamespaceOption, ToOption, moment
from shiplog.audit.output import AuditOutput, progress, show
from shiplog.audit.times import format_ms
from shiplog.errors import CommandError
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.audit.logged import Published
    from consumers.audit.namespace_log import NamespaceLog
    from schemas.avro_codec import Codecs


def export(
    namespace: NamespaceOption,
    from_: FromOption,
    out: Annotated[Path, typer.Option(help="A folder, new or empty.")],
    to: ToOption = "now",
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """Writes events, manifests, decisions, deliveries, schemas and hashes into a folder, all in Avro.

    It holds the events of all namespaces of the partition: the guard counts them together.

    Example: shiplog audit export -n orders --from "2h ago" --out incident; shiplog audit verify --bundle incident
    """
    settings = read_command_settings(config)
    from_ms, to_ms = moment(from_), moment(to)
    _make_folder(out)
    known = codecs(settings.registry())
    with open_namespace(settings, namespace) as log, DeliveryLog(settings.kafka, known) as deliveries:
        history = list(log.between(from_ms, to_ms))
        standing = log.at(from_ms)
        if standing is not None and (not history or standing.offset < history[0].offset):
            history.insert(0, standing)
        if not history:
            raise CommandError(f"{namespace} has no version in that time")
        written = {"manifests.avro": write_records(out / "manifests.avro", "manifest", _manifests(log, history))}
        events, total = {}, sum(log.events_to_read(one) for one in (history[-1],))
        with progress("events", total) as each:
            for number, topic in enumerate(sorted(history[-1].manifest.folded_to)):
                first = min(one.manifest.recover_from.get(topic, 0) for one in history)
                last = history[-1].manifest.folded_to[topic]
                file = f"events-{number}.avro"
                written[file] = write_records(
                    out / file, "registry_event", _events(log, known, topic, first, last)
                )
                events[topic] = {"file": file, "first": first, "last": last}
                each(written[file])
        decisions = (
            Logged(CONTROL_EVENTS, log.number, offset, event.issued_at // 1000, to_avro("control_event", event))
            for offset, event in log.control_events(0, 1 << 62)
        )
        written["decisions.avro"] = write_records(out / "decisions.avro", "control_event", decisions)
        sent = (
            Logged(DELIVERIES, -1, -1, one.at // 1000, to_avro("delivery", one))
            for one in deliveries.between(history[0].at_ms, to_ms)
        )
        written["deliveries.avro"] = write_records(out / "deliveries.avro", "delivery", sent)
        description = {
            "made_by": f"shiplog {__version__}",
            "namespace": namespace,
            "partition": log.number,
            "from": format_ms(from_ms),
            "to": format_ms(to_ms),
            "settings": settings_of(settings.conversion, settings.materializer.guard),
            "events": events,
        }
    seal(out, description)
    show({"bundle": str(out), "records": written}, output)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise CommandError(f"{out} is not empty; export into a new folder")
    except OSError as error:
        raise CommandError(f"cannot write to {out}: {error.strerror}") from error


def _manifests(log: NamespaceLog, history: list[Published]) -> Iterator[Logged]:
    for one in history:
        yield Logged(SNAPSHOT_HISTORY, log.number, one.offset, one.at_ms, to_avro("manifest", one.manifest))


def _events(log: NamespaceLog, known: Codecs, topic: str, first: int, last: int) -> Iterator[Logged]:
    for message in log.raw(topic, first, last + 1):
        try:
            event = known.registry_event.decode(message.value())
        except UndecodableRecordError:
            continue  # the fold passed it over, too
        at_ms = message.timestamp()[1]
        yield Logged(topic, log.number, message.offset() or 0, at_ms, to_avro("registry_event", event))
