"""Prints answers: for people, or as JSON or YAML."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

AuditOutput = Annotated[
    Literal["table", "json", "yaml"], typer.Option("--output", "-o", help="table, json or yaml")
]


def show(answer: Mapping[str, Any], output: str) -> None:
    """An answer: plain values, lists of rows, and texts; `table` prints each list as a table."""
    match output:
        case "json":
            typer.echo(json.dumps(answer))
        case "yaml":
            typer.echo(yaml.safe_dump(dict(answer), sort_keys=False).rstrip())
        case _:
            _show_tables(answer)


def _show_tables(answer: Mapping[str, Any]) -> None:
    # A pipe has no width: lines are not cut for it.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
    for name, value in answer.items():
        title = name.replace("_", " ")
        match value:
            case [{}, *_]:
                table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
                for column in value[0]:
                    table.add_column(column.replace("_", " "), overflow="fold")
                for row in value:
                    table.add_row(*(_cell(cell) for cell in row.values()))
                console.print(table)
            case _ if value in (None, "", [], {}):
                continue
            case _:
                console.print(f"{title}: {_cell(value)}", markup=False)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case dict():
            return ",".join(f"{name}={one}" for name, one in sorted(value.items()))
        case list() | tuple():
            return ", ".join(_cell(one) for one in value)
        case _:
            return str(value)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, when that is a terminal, that says what is read and how long it will take."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
