"""The `config-item` commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from consumers.materializer.conversion.config_item import BadItemError, Item, read_item
from consumers.materializer.conversion.safe_yaml import MAX_BYTES
from consumers.materializer.folded_item import holds_resources
from schemas.events import ConfigKey, Namespace
from shiplog.errors import UnreadableItemError
from shiplog.options import ConfigOption, OutputOption  # noqa: TC001 - typer reads them
from shiplog.settings import read_settings

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings

EXIT_REFUSED = 1

app = typer.Typer(
    help="Config items of Nacos that hold Istio's configuration. Reads a file only.", no_args_is_help=True
)


@app.callback()
def _group() -> None:
    """Config items of Nacos that hold Istio's configuration. Reads a file only."""


@app.command()
def check(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="the item's text; - is standard input")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Nacos namespace of the item")] = "public",
    group: Annotated[str, typer.Option("--group", "-g", help="group of the item, to see if it is read")] = "",
    config: ConfigOption = None,
    output: OutputOption = "text",
) -> None:
    """Says what shiplog would publish of an item, what Istio warns of, or why the item is refused.

    Exit code 0: it would be published. 1: it would not, with the line and the field. 2: there is no such text.

    Example: shiplog config-item check routes.yaml --namespace prod

    Example: kubectl get virtualservice -o yaml | shiplog config-item check - --output json
    """
    settings = read_settings(config).conversion
    text = _read(file)
    if group and not holds_resources(settings, ConfigKey(group, file)):
        converted = ", ".join(settings.config_groups)
        _refuse(f"items of group {group} are passed over; those of {converted} are published", {}, output)
    item = _convert(settings, Namespace(namespace), text, output)
    if output == "json":
        resources = [{"collection": one.collection, "name": one.name} for one in item.resources]
        typer.echo(json.dumps({"ok": True, "resources": resources, "warnings": item.warnings}))
        return
    for one in item.resources:
        typer.echo(f"{one.collection}  {one.name}")
    if not item.resources:
        typer.echo("no resource stands in it: nothing would be published")
    for warning in item.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _convert(settings: ConversionSettings, namespace: Namespace, text: str, output: str) -> Item:
    try:
        return read_item(settings, namespace, text)
    except BadItemError as error:
        place = {"line": error.line, "field": error.field, "detail": error.detail}
        _refuse(str(error), place, output)


def _refuse(why: str, place: dict[str, Any], output: str) -> NoReturn:
    """Says why nothing would be published, and ends."""
    if output == "json":
        typer.echo(json.dumps({"ok": False, "error": place or {"detail": why}}))
    else:
        typer.echo(f"refused: {why}", err=True)
    raise typer.Exit(EXIT_REFUSED)


def _read(file: str) -> str:
    """The text, or a little more of it than an item may have."""
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as source:
                raw = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise UnreadableItemError(f"{file} can't be read: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        return "x" * len(raw)  # refused for its size
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableItemError(f"{file} is no text in UTF-8: line {line}, byte {error.start}") from error
