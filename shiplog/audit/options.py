"""Options that several audit commands have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from shiplog.audit.times import parse_time

NamespaceOption = Annotated[str, typer.Option("--namespace", "-n", help="Nacos's namespace id.")]
FromOption = Annotated[str, typer.Option("--from", help="ISO 8601, with a zone or in UTC; or '2h ago'.")]
ToOption = Annotated[str, typer.Option("--to", help="As --from.")]
TimeOption = Annotated[
    str, typer.Option("--time", "-t", help="2026-11-23T14:03+01:00, '14:03 Europe/Berlin', '2h ago', now.")
]


def moment(text: str) -> int:
    """The moment that an option names, milliseconds (UTC)."""
    return parse_time(text, datetime.now(UTC))
