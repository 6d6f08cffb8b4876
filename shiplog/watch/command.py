"""The `watch` command."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Literal

import grpc
import typer

from shiplog.errors import CommandError
from shiplog.watch.client import Pushed, pushes_over_ads, pushes_over_mcp, tls
from shiplog.watch.difference import ResourceChange, difference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.protobuf.istio_mcp.mcp_pb2 import Resource

SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE = "networking.istio.io/v1/ServiceEntry"
_RETRY_S = 1.0
_SHOWN_ENDPOINTS = 10


def watch(
    address: Annotated[str, typer.Option(help="The gateway's host:port.")] = "127.0.0.1:9901",
    protocol: Annotated[Literal["mcp", "ads"], typer.Option(help="mcp or ads")] = "mcp",
    collection: Annotated[
        str | None,
        typer.Option(help="MCP collection, or ADS type such as networking.istio.io/v1/ServiceEntry."),
    ] = None,
    output: Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json")] = "text",
    ca: Annotated[Path | None, typer.Option(help="Use TLS, and trust what this authority signed (PEM).")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Our certificate, where the gateway wants one.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the first push and end.")] = False,  # noqa: FBT002 - typer's form
) -> None:
    """Prints what a Pilot gets from a gateway, change by change.

    Example: shiplog watch --protocol ads --output json | jq .changed
    """
    asked = collection or (SERVICE_ENTRIES if protocol == "mcp" else SERVICE_ENTRY_TYPE)
    if ca is None and (certificate or key):
        raise typer.BadParameter("--certificate and --key need --ca")
    try:
        credentials = None if ca is None else tls(ca, certificate, key)
    except OSError as error:
        raise CommandError(f"cannot read {error.filename}: {error.strerror}") from error
    follow = pushes_over_mcp if protocol == "mcp" else pushes_over_ads
    held: dict[str, Resource] = {}
    while True:
        try:
            for push in _until_interrupted(follow(address, asked, credentials)):
                changes = difference(held, push.resources)
                held = push.resources
                typer.echo(_as_json(push, changes) if output == "json" else _as_text(push, changes))
                if once:
                    return
        except grpc.RpcError as error:
            if once or error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                raise CommandError(f"{address}: {error.code().name}: {error.details()}") from error
            typer.echo(f"shiplog: {address}: {error.details()}; trying again", err=True)
        else:
            return
        try:
            time.sleep(_RETRY_S)
        except KeyboardInterrupt:
            return


def _until_interrupted(pushes: Iterator[Pushed]) -> Iterator[Pushed]:
    try:
        yield from pushes
    except KeyboardInterrupt:
        return


def _as_json(push: Pushed, changes: list[ResourceChange]) -> str:
    def named(kind: str) -> list[dict[str, object]]:
        return [
            {"name": change.name, "version": change.version} | ({"body": change.body} if change.body else {})
            for change in changes
            if change.kind == kind
        ]

    return json.dumps(
        {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "collection": push.collection,
            "version": push.version,
            "resources": len(push.resources),
            "bytes": len(push.message),
            "added": named("added"),
            "changed": named("changed"),
            "removed": [change.name for change in changes if change.kind == "removed"],
        }
    )


def _as_text(push: Pushed, changes: list[ResourceChange]) -> str:
    at = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    lines = [f"{at}  {push.collection}  version {push.version[:12]}  {len(push.resources)} resources"]
    signs = {"added": "+", "changed": "~", "removed": "-"}
    for change in changes:
        lines.append(f"  {signs[change.kind]} {change.name}  {change.version[:12]}  {change.summary}".rstrip())
        endpoints = [f"      - {endpoint}" for endpoint in change.removed]
        endpoints += [f"      + {endpoint}" for endpoint in change.added]
        lines += endpoints[:_SHOWN_ENDPOINTS]
        if len(endpoints) > _SHOWN_ENDPOINTS:
            lines.append(f"      ... and {len(endpoints) - _SHOWN_ENDPOINTS} more")
    return "\n".join(lines)
