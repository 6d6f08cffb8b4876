"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="SHIPLOG_CONFIG", help="YAML file; SHIPLOG_ variables win over it."),
]
OutputOption = Annotated[Literal["text", "json"], typer.Option("--output", "-o", help="text or json")]
