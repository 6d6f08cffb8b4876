"""`shiplog audit verify`: folds the log again, and holds every snapshot ever published against it."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from consumers.audit.bundle import Bundle
from consumers.audit.partition_log import PartitionLog
from consumers.audit.verdict import Verdict
from consumers.audit.verifying import verify as verify_source
from consumers.errors import ConsumerError
from schemas.avro_codec import codecs
from schemas.events import Namespace
from schemas.partitioner import partition_of
from shiplog.audit.logs import partition_count, readable
from shiplog.audit.options import FromOption, ToOption, moment
from shiplog.audit.output import progress
from shiplog.control.versions import format_version
from shiplog.errors import CommandError, NotVerifiedError
from shiplog.options import ConfigOption, OutputOption  # noqa: TC001 - typer reads them
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.audit.verification import Finding

_SHOWN = 20


@dataclass(slots=True)
class Report:
    """How many snapshots came to each verdict, and the first that were not verified."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[dict[str, Any]] = field(default_factory=list)

    def take(self, finding: Finding) -> None:
        """One more."""
        self.counts[finding.verdict] += 1
        if finding.verdict is not Verdict.VERIFIED and len(self.first) < _SHOWN:
            self.first.append(
                {
                    "verdict": str(finding.verdict),
                    "namespace": finding.manifest.namespace,
                    "version": finding.manifest.version,
                    "digest": finding.manifest.digest,
                    "reason": finding.reason,
                }
            )

    def add(self, other: Report) -> None:
        """Those of another report, too."""
        self.counts += other.counts
        self.first = (self.first + other.first)[:_SHOWN]


def verify(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this one; else give --all.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All namespaces.")] = False,  # noqa: FBT002 - typer's form
    bundle: Annotated[Path | None, typer.Option(help="An exported folder, instead of Kafka.")] = None,
    from_: FromOption = "",
    to: ToOption = "",
    jobs: Annotated[int, typer.Option(min=0, help="Processes, one partition each; 0: as many as cores.")] = 0,
    metrics: Annotated[
        Path | None, typer.Option(help="Writes Prometheus metrics to this file, for a node exporter.")
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Folds the log again and compares every snapshot ever published; exit code 1 when one does not agree.

    Example: shiplog audit verify --all --from "1d ago" --metrics /var/lib/node_exporter/shiplog.prom --output json
    """
    if [bool(namespace), everything, bundle is not None].count(True) != 1:
        raise typer.BadParameter("give one of --namespace, --all and --bundle")
    began = time.time()
    if bundle is not None:
        report = _of_bundle(bundle)
    else:
        report = _of_kafka(config, namespace, moment(from_) if from_ else 0, moment(to) if to else None, jobs)
    if metrics is not None:
        _write_metrics(metrics, report, began)
    if output == "json":
        typer.echo(
            json.dumps({verdict.lower(): report.counts[verdict] for verdict in Verdict} | {"first": report.first})
        )
    else:
        typer.echo(", ".join(f"{report.counts[verdict]} {verdict}" for verdict in Verdict))
        for one in report.first:
            typer.echo(f"{one['verdict']} {one['namespace']} {format_version(one['version'])}: {one['reason']}")
    if report.counts[Verdict.MISMATCH]:
        raise NotVerifiedError(f"{report.counts[Verdict.MISMATCH]} snapshots are not what the log gives")


def _of_bundle(folder: Path) -> Report:
    try:
        opened = Bundle.open(folder)
        return _collect(verify_source(opened, opened.conversion, opened.guard))
    except ConsumerError as error:
        raise NotVerifiedError(str(error)) from error


def _of_kafka(config: Path | None, namespace: str, from_ms: int, to_ms: int | None, jobs: int) -> Report:
    """Partition by partition; all of a partition's events are read: the guard counts them together."""
    settings = read_command_settings(config)
    with readable(settings):
        partitions = partition_count(settings)
    numbers = [partition_of(namespace, partitions)] if namespace else list(range(partitions))
    workers = min(jobs or os.cpu_count() or 1, len(numbers))
    report = Report()
    with readable(settings), progress("partitions", len(numbers)) as each:
        if workers <= 1:
            for number in numbers:
                report.add(verify_partition(config, namespace, number, from_ms, to_ms))
                each(1)
            return report
        # Kafka's client does not survive a fork.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            tasks = [
                pool.submit(verify_partition, config, namespace, number, from_ms, to_ms) for number in numbers
            ]
            for task in as_completed(tasks):
                report.add(task.result())
                each(1)
    return report


def verify_partition(config: Path | None, namespace: str, number: int, from_ms: int, to_ms: int | None) -> Report:
    """One partition's report; in a process of its own."""
    settings = read_command_settings(config)
    with readable(settings):
        log = PartitionLog(
            settings.kafka,
            codecs(settings.registry()),
            number,
            namespace=Namespace(namespace) if namespace else None,
            from_ms=from_ms,
            to_ms=to_ms,
        )
        return _collect(verify_source(log, settings.conversion, settings.materializer.guard))


def _collect(findings: Iterable[Finding]) -> Report:
    report = Report()
    for finding in findings:
        report.take(finding)
    return report


def _write_metrics(path: Path, report: Report, began: float) -> None:
    registry = CollectorRegistry()
    snapshots = Gauge(
        "shiplog_audit_snapshots", "Snapshots of the last run, by verdict.", ["verdict"], registry=registry
    )
    for verdict in Verdict:
        snapshots.labels(verdict).set(report.counts[verdict])
    finished = Gauge("shiplog_audit_finished_timestamp_seconds", "When the last run ended.", registry=registry)
    took = Gauge("shiplog_audit_duration_seconds", "How long the last run took.", registry=registry)
    finished.set_to_current_time()
    took.set(time.time() - began)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
