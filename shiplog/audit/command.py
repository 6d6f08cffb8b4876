"""The `audit` commands."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from consumers.audit.partition_log import PartitionLog
from consumers.audit.verification import Verdict
from runtime.errors import KafkaUnusableError
from schemas.avro_codec import codecs
from schemas.partitioner import partition_of
from schemas.topics import SNAPSHOT_HISTORY
from shiplog.control.versions import format_version
from shiplog.errors import NotVerifiedError
from shiplog.options import ConfigOption, OutputOption  # noqa: TC001 - typer reads them
from shiplog.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.audit.verification import Finding
    from shiplog.settings import Settings

app = typer.Typer(help="What was published, and whether the log proves it. Reads only.", no_args_is_help=True)
_SHOWN = 20


@app.callback()
def audit() -> None:
    """What was published, and whether the log proves it. Reads only."""


@app.command()
def verify(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this one; else give --all.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All namespaces.")] = False,  # noqa: FBT002 - typer's form
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Folds the log again and compares every snapshot ever published; exit code 1 when one does not agree.

    Example: shiplog audit verify --all --output json > report.json
    """
    if bool(namespace) == everything:
        raise typer.BadParameter("give either --namespace or --all")
    settings = read_settings(config)
    counts: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("snapshots compared", total=None)
        try:
            for finding in _findings(settings, namespace):
                counts[finding.verdict] += 1
                bar.advance(task)
                if finding.verdict is not Verdict.VERIFIED and len(faults) < _SHOWN:
                    faults.append(_as_dict(finding))
        except KafkaException as error:
            raise KafkaUnusableError(f"Kafka at {settings.kafka.servers}: {error.args[0].str()}") from error
    if output == "json":
        typer.echo(json.dumps({verdict.lower(): counts[verdict] for verdict in Verdict} | {"first": faults}))
    else:
        typer.echo(", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict))
        for fault in faults:
            version = format_version(fault["version"])
            typer.echo(f"{fault['verdict']} {fault['namespace']} {version}: {fault['reason']}")
    if counts[Verdict.MISMATCH]:
        raise NotVerifiedError(f"{counts[Verdict.MISMATCH]} snapshots are not what the log gives")


def _findings(settings: Settings, namespace: str) -> Iterator[Finding]:
    """Partition by partition; a namespace's partition is read whole, for its guard counts all of it."""
    admin = AdminClient(settings.kafka.client_config("shiplog-audit"))
    partitions = len(admin.list_topics(SNAPSHOT_HISTORY, timeout=10).topics[SNAPSHOT_HISTORY].partitions)
    numbers = [partition_of(namespace, partitions)] if namespace else list(range(partitions))
    for number in numbers:
        log = PartitionLog(settings.kafka, codecs(settings.registry()), number)
        for finding in log.verify(settings.conversion, settings.materializer.guard):
            if namespace in {"", finding.manifest.namespace}:
                yield finding


def _as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict,
        "namespace": finding.manifest.namespace,
        "version": finding.manifest.version,
        "digest": finding.manifest.digest,
        "reason": finding.reason,
    }
