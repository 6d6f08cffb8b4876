"""The `audit` commands."""

from __future__ import annotations

import typer

from shiplog.audit.at import at
from shiplog.audit.diff import diff
from shiplog.audit.export import export
from shiplog.audit.timeline import timeline
from shiplog.audit.verify import verify
from shiplog.audit.who import who
from shiplog.audit.why import why

app = typer.Typer(
    help="What was published, who had it, and whether the log proves it. Reads only.", no_args_is_help=True
)
for command in (at, diff, why, who, timeline, verify, export):
    app.command()(command)
