"""The `up` command."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from shiplog.local_stack.live_view import LiveView
from shiplog.local_stack.stack import LocalStack, StackOptions
from shiplog.settings import read_settings

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_S = 1.0


def up(
    nacos: Annotated[str | None, typer.Option(help="URL of an existing Nacos.")] = None,
    kafka: Annotated[str | None, typer.Option(help="Bootstrap servers of an existing Kafka.")] = None,
    nacos_port: Annotated[int, typer.Option()] = 8848,
    kafka_port: Annotated[int, typer.Option()] = 9092,
    gateway_port: Annotated[int, typer.Option()] = 9901,
    gateway_admin_port: Annotated[int, typer.Option()] = 9911,
    listener_admin_port: Annotated[int, typer.Option()] = 9912,
    materializer_admin_port: Annotated[int, typer.Option()] = 9913,
    data_dir: Annotated[Path, typer.Option(help="Where Kafka and Nacos keep their data.")] = Path(".shiplog"),
    jars_dir: Annotated[Path, typer.Option(help="Where jars are kept.")] = Path(".local/jars"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin with empty Kafka and Nacos.")] = False,  # noqa: FBT002 - typer's form
    demo: Annotated[bool, typer.Option(help="Register services that change.")] = True,  # noqa: FBT002 - typer's form
    view: Annotated[bool, typer.Option(help="Show the live view.")] = True,  # noqa: FBT002 - typer's form
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses here, as JSON, once everything is ready.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", envvar="SHIPLOG_CONFIG")] = None,
) -> None:
    """Starts Kafka, Nacos (or uses existing ones) and all of shiplog on this machine.

    Example: shiplog up --demo --fresh; then, in another terminal: shiplog watch
    """
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    options = StackOptions(
        data_dir=data_dir, jars_dir=jars_dir, nacos=nacos, kafka=kafka, nacos_port=nacos_port,
        kafka_port=kafka_port, gateway_port=gateway_port, gateway_admin_port=gateway_admin_port,
        listener_admin_port=listener_admin_port, materializer_admin_port=materializer_admin_port,
        fresh=fresh, demo=demo,
    )  # fmt: skip
    console = Console()
    began = time.monotonic()

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/]  {line}", highlight=False)

    stack = LocalStack(options, read_settings(config), tell)
    stack.check()
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    try:
        stack.start()
        with_view = view and console.is_terminal
        if not with_view:
            console.print_json(data=stack.addresses())
        if ready_file is not None:
            _write_whole(ready_file, json.dumps(stack.addresses()))
        _supervise(stack, console, with_view=with_view)
    except _InterruptedError:
        pass
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # what ends us is under way, and bounded in time
        console.print("stopping")
        stack.stop()


class _InterruptedError(Exception):
    """A signal came: whatever is being waited for is given up."""


def _interrupt(*_: object) -> None:
    raise _InterruptedError


def _supervise(stack: LocalStack, console: Console, *, with_view: bool) -> None:
    """Restarts shiplog's processes when they end, and draws, until a signal comes."""
    live_view = LiveView(stack)
    if not with_view:
        while True:
            time.sleep(_LOOK_S)
            for name in stack.restart_ended():
                console.print(f"the {name} ended and was started again")
    with Live(live_view.draw(), console=console, refresh_per_second=4) as live:
        while True:
            time.sleep(_LOOK_S)
            for name in stack.restart_ended():
                live_view.note(f"the {name} ended and was started again")
            live.update(live_view.draw())


def _write_whole(path: Path, text: str) -> None:
    """A reader sees all of it or nothing."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n")
    partial.replace(path)
