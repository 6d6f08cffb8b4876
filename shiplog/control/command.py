"""The `control` commands."""

from __future__ import annotations

import getpass
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from schemas.avro_codec import codecs
from schemas.control import (
    ControlBody,
    ControlEvent,
    ExcludeDatacenter,
    Freeze,
    IncludeDatacenter,
    Pin,
    Release,
    Unfreeze,
    Unpin,
)
from schemas.events import Datacenter, Namespace
from shiplog.control.client import ControlClient
from shiplog.control.versions import find_version, format_version
from shiplog.errors import CommandError
from shiplog.options import ConfigOption, OutputOption  # noqa: TC001 - typer reads them
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.control import Decision
    from schemas.records import Manifest

app = typer.Typer(help="Operators' decisions over what is published.", no_args_is_help=True)

NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="The Nacos namespace.")]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the log for good.")]
AuthorOption = Annotated[
    str, typer.Option("--author", envvar="SHIPLOG_AUTHOR", help="Who decides; else the user of this machine.")
]
WaitOption = Annotated[float, typer.Option("--wait", help="Seconds to wait until it is carried out; 0: don't.")]
DatacenterOption = Annotated[str, typer.Option("--datacenter", "-d", help="The datacenter.")]


@app.command()
def freeze(
    namespace: NamespaceOption,
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Keeps what is published as it is, whatever happens in Nacos; changes go on being folded.

    Example: shiplog control freeze -n orders -r "migration of the registry, ticket 4711"
    """
    _decide(namespace, Freeze(), author, reason, wait, config, output)


@app.command()
def unfreeze(
    namespace: NamespaceOption,
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Publishes the present again, at once.

    Example: shiplog control unfreeze -n orders -r "migration done"
    """
    _decide(namespace, Unfreeze(), author, reason, wait, config, output)


@app.command()
def pin(
    namespace: NamespaceOption,
    version: Annotated[str, typer.Option("--version", "-v", help="A version, an event offset, or a digest.")],
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 300,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Goes back to a former version, rebuilt from the log and verified by its digest; it then stands.

    Example: shiplog control pin -n orders --version 181223 -r "bad deployment at 14:03"
    """
    settings = read_command_settings(config)
    with ControlClient(settings.kafka, codecs(settings.registry())) as client:
        found = find_version(version, client.history(Namespace(namespace)))
    _decide(namespace, Pin(version=found.version), author, reason, wait, config, output)


@app.command()
def unpin(
    namespace: NamespaceOption,
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Publishes the present again, at once.

    Example: shiplog control unpin -n orders -r "deployment rolled back"
    """
    _decide(namespace, Unpin(), author, reason, wait, config, output)


@app.command()
def release(
    namespace: NamespaceOption,
    datacenter: DatacenterOption,
    scope: Annotated[Literal["service", "namespace", "datacenter"], typer.Option(help="What is held.")],
    reason: ReasonOption,
    service: Annotated[str, typer.Option(help="group@@service, where the scope is service.")] = "",
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Lets go of endpoints that the guard holds: what Nacos says counts at once.

    A datacenter's hold is one of each partition; name a namespace of it.

    Example: shiplog control release -n orders -d dc1 --scope service --service DEFAULT_GROUP@@old -r "shut down"
    """
    if (scope == "service") != ("@@" in service):
        raise typer.BadParameter("give --service group@@service with --scope service, and only then")
    body = Release(scope=scope, datacenter=Datacenter(datacenter), service=service)
    _decide(namespace, body, author, reason, wait, config, output)


@app.command()
def exclude(
    namespace: NamespaceOption,
    datacenter: DatacenterOption,
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Leaves a datacenter's endpoints out of a namespace.

    Example: shiplog control exclude -n orders -d dc2 -r "dc2 is being drained"
    """
    _decide(namespace, ExcludeDatacenter(datacenter=Datacenter(datacenter)), author, reason, wait, config, output)


@app.command()
def include(
    namespace: NamespaceOption,
    datacenter: DatacenterOption,
    reason: ReasonOption,
    author: AuthorOption = "",
    wait: WaitOption = 30,
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Counts a datacenter's endpoints again.

    Example: shiplog control include -n orders -d dc2 -r "dc2 is back"
    """
    _decide(namespace, IncludeDatacenter(datacenter=Datacenter(datacenter)), author, reason, wait, config, output)


@app.command(name="list")
def list_all(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Only this one.")] = "",
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """What stands published of each namespace, the decisions over it, and the guard's holds.

    Example: shiplog control list --output json | jq '.[] | select(.frozen)'
    """
    settings = read_command_settings(config)
    with ControlClient(settings.kafka, codecs(settings.registry())) as client:
        found = client.manifests()
    shown = [manifest for name, manifest in sorted(found.items()) if namespace in {"", name}]
    if namespace and not shown:
        raise CommandError(
            f"namespace {namespace} has no snapshot; there are: {', '.join(sorted(found)) or 'none'}"
        )
    if output == "json":
        typer.echo(json.dumps([_as_dict(manifest) for manifest in shown]))
    else:
        typer.echo("\n".join(_as_text(manifest) for manifest in shown) or "nothing is published yet")


def _decide(
    namespace: str, body: ControlBody, author: str, reason: str, wait: float, config: Path | None, output: str
) -> None:
    settings = read_command_settings(config)
    event = ControlEvent(
        namespace=Namespace(namespace),
        author=author or getpass.getuser(),
        reason=reason,
        issued_at=time.time_ns() // 1000,
        body=body,
    )
    with ControlClient(settings.kafka, codecs(settings.registry())) as client:
        manifest = client.decide(event, wait)
    if manifest is None:
        typer.echo(json.dumps({"written": True}) if output == "json" else "written")
    else:
        typer.echo(json.dumps(_as_dict(manifest)) if output == "json" else _as_text(manifest))


def _as_dict(manifest: Manifest) -> dict[str, Any]:
    return {
        "namespace": manifest.namespace,
        "version": manifest.version,
        "digest": manifest.digest,
        "resources": manifest.resources,
        "frozen": manifest.frozen,
        "decisions": [_decision(decision) for decision in manifest.decisions],
        "holds": list(manifest.holds),
        "links": dict(manifest.links),
        "missing": list(manifest.missing),
    }


def _decision(decision: Decision) -> dict[str, Any]:
    event = decision.event
    return {
        "kind": type(event.body).__name__,
        "author": event.author,
        "reason": event.reason,
        "issued_at": event.issued_at,
        "offset": decision.offset,
    } | {name: getattr(event.body, name) for name in event.body.__slots__}


def _as_text(manifest: Manifest) -> str:
    lines = [
        f"{manifest.namespace}: {'stands' if manifest.frozen else 'live'}, {manifest.resources} resources",
        f"  digest {manifest.digest}",
        f"  version {format_version(manifest.version)}",
    ]
    lines += [
        f"  {type(one.event.body).__name__} by {one.event.author}: {one.event.reason}"
        for one in manifest.decisions
    ]
    lines += [f"  held: {hold}" for hold in manifest.holds]
    lines += [f"  link to {name}: {link}" for name, link in manifest.links.items() if link != "LIVE"]
    lines += [f"  not heard of yet: {name}" for name in manifest.missing]
    return "\n".join(lines)
