"""The command line: each command reads its settings, and hands over to a process."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from producers.errors import ProducerError
from runtime.errors import SettingsError, ShellError
from runtime.kafka_topics import TopicKeeper
from runtime.lifecycle import (
    configure_logging,
    keep_freed_memory,
    run_async,
    run_threaded,
    tune_garbage_collector,
)
from schemas.errors import SchemaError
from schemas.topics import TopicSettings, mirrored_topic_settings, topic_settings
from shiplog import __version__
from shiplog.audit.command import app as audit_app
from shiplog.config_item.command import app as config_item_app
from shiplog.control.command import app as control_app
from shiplog.errors import CommandError, UnreadableItemError
from shiplog.explain import explain
from shiplog.options import ConfigOption, OutputOption  # noqa: TC001 - typer reads them
from shiplog.settings import Settings, read_command_settings, read_settings
from shiplog.up import up
from shiplog.watch.command import watch

if TYPE_CHECKING:
    from pathlib import Path

EXIT_FAILED = 1
EXIT_USAGE = 2

app = typer.Typer(
    help="A replayable log between Nacos and Istio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
topics_app = typer.Typer(help="Creates and checks the Kafka topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(control_app, name="control")
app.add_typer(audit_app, name="audit")
app.add_typer(config_item_app, name="config-item")
app.command()(up)
app.command()(watch)
app.command()(explain)


def main() -> None:
    """Runs a command: 0 done, 1 failed, 2 wrong usage or settings; an operator's mistake has no stack trace."""
    try:
        app()
    except (SettingsError, UnreadableItemError) as error:
        _fail(error, EXIT_USAGE)
    except (ShellError, SchemaError, ProducerError, CommandError) as error:
        _fail(error, EXIT_FAILED)


def _fail(error: Exception, code: int) -> None:
    sys.stderr.write(f"shiplog: {error}\n")
    sys.exit(code)


@app.command()
def listen(config: ConfigOption = None) -> None:
    """Watches a Nacos cluster and publishes its changes to Kafka.

    Example: SHIPLOG_NACOS__SERVERS='["http://nacos:8848"]' shiplog listen --config shiplog.yaml
    """
    from producers.listener.process import Listener  # noqa: PLC0415 - each process loads only its own libraries

    settings = _start("listener", config)
    listener = Listener(
        kafka=settings.kafka,
        topics=settings.topics,
        nacos=settings.nacos,
        settings=settings.listener,
        registry=settings.registry(),
    )
    run_async(listener.run)


@app.command()
def materialize(config: ConfigOption = None) -> None:
    """Folds registry events into versioned snapshots.

    Example: SHIPLOG_KAFKA__SERVERS=kafka:9092 shiplog materialize
    """
    from consumers.materializer.process import Materializer  # noqa: PLC0415 - as in listen

    settings = _start("materializer", config)
    materializer = Materializer(
        kafka=settings.kafka,
        topics=settings.topics,
        settings=settings.materializer,
        conversion=settings.conversion,
        registry=settings.registry(),
    )
    run_threaded(materializer.run)


@app.command()
def gateway(config: ConfigOption = None) -> None:
    """Streams snapshots to Pilots over MCP and ADS.

    Example: SHIPLOG_GATEWAY__PORT=9901 shiplog gateway --config shiplog.yaml
    """
    from mcp_gateway.process import Gateway  # noqa: PLC0415 - as in listen

    settings = _start("gateway", config)
    keep_freed_memory()

    async def run(stop: object) -> None:
        gateway = Gateway(
            kafka=settings.kafka,
            topics=settings.topics,
            settings=settings.gateway,
            registry=settings.registry(),
        )
        await gateway.run(stop)  # type: ignore[arg-type]

    run_async(run)


@topics_app.command("ensure")
def topics_ensure(config: ConfigOption = None, output: OutputOption = "text") -> None:
    """Creates the topics that are missing and checks all of them.

    Example: shiplog topics ensure --config shiplog.yaml --output json
    """
    settings = read_command_settings(config)
    keeper = TopicKeeper(settings.kafka, settings.topics)
    created = keeper.ensure(_wanted(settings))
    if output == "text":
        for name in created:
            typer.echo(f"created {name}")
    warnings = [finding.text(settings.kafka.servers) for finding in keeper.check(_wanted(settings))]
    _tell({"created": created, "warnings": warnings}, output)


@topics_app.command("check")
def topics_check(config: ConfigOption = None, output: OutputOption = "text") -> None:
    """Checks the topics; exit code 1 where one would lose or mix data.

    Example: shiplog topics check && shiplog listen
    """
    settings = read_command_settings(config)
    findings = TopicKeeper(settings.kafka, settings.topics).check(_wanted(settings))
    _tell({"ok": True, "warnings": [finding.text(settings.kafka.servers) for finding in findings]}, output)


@app.command()
def version(output: OutputOption = "text") -> None:
    """Prints the version.

    Example: shiplog version --output json
    """
    typer.echo(json.dumps({"version": __version__}) if output == "json" else f"shiplog {__version__}")


def _start(process: str, config: Path | None) -> Settings:
    settings = read_settings(config)
    configure_logging(settings.log, process)
    tune_garbage_collector()
    return settings


def _wanted(settings: Settings) -> tuple[TopicSettings, ...]:
    days = settings.topics.event_retention_days
    mirrored = mirrored_topic_settings(settings.materializer.event_topics, event_retention_days=days)
    return (*topic_settings(event_retention_days=days), *mirrored)


def _tell(found: dict[str, Any], output: str) -> None:
    """The outcome of a check without a fault."""
    if output == "json":
        typer.echo(json.dumps(found))
        return
    for warning in found["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo("all topics are as they should be" if not found["warnings"] else "all topics can be used")


if __name__ == "__main__":
    main()
