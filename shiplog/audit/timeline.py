"""`shiplog audit timeline`: a namespace's history at a glance, also as a picture."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated

import pygal
import typer

from consumers.audit.timeline import slices
from shiplog.audit.logs import open_namespace
from shiplog.audit.options import FromOption, NamespaceOption, ToOption, moment
from shiplog.audit.output import AuditOutput, show
from shiplog.audit.times import format_ms
from shiplog.errors import CommandError
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings

if TYPE_CHECKING:
    from consumers.audit.timeline import Slice


def timeline(
    namespace: NamespaceOption,
    from_: FromOption = "1d ago",
    to: ToOption = "now",
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Into so many slices of time.")] = 48,
    picture: Annotated[Path | None, typer.Option(help="Draws it, too: an SVG file.")] = None,
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """Versions, sizes, rates, holds, decisions and links over time.

    Example: shiplog audit timeline -n orders --from "6h ago" --picture orders.svg
    """
    settings = read_command_settings(config)
    from_ms, to_ms = moment(from_), moment(to)
    if from_ms >= to_ms:
        raise CommandError("--from must be before --to")
    with open_namespace(settings, namespace) as log:
        found = slices(log.between(from_ms, to_ms), from_ms, to_ms, rows)
        before = log.at(from_ms)
    if picture is not None:
        try:
            picture.write_bytes(_draw(namespace, found))
        except OSError as error:
            raise CommandError(f"cannot write {picture}: {error.strerror}") from error
    answer = {
        "namespace": namespace,
        "from": format_ms(from_ms),
        "to": format_ms(to_ms),
        "versions": sum(one.versions for one in found),
        "before": None if before is None else {"resources": before.manifest.resources, **before.manifest.version},
        "slices": [
            {
                "from": format_ms(one.from_ms),
                "versions": one.versions,
                "resources": one.resources,
                "added": one.added,
                "changed": one.changed,
                "removed": one.removed,
                "changes_per_s": round(one.changes_per_s, 3),
                "last_version": one.version,
                "digest": one.digest[:12],
                "holds": list(one.holds),
                "decisions": list(one.decisions),
                "links": list(one.links),
            }
            for one in found
        ],
        "note": "" if found else "nothing was published in that time: what stood before went on standing",
    }
    show(answer, output)


def _draw(namespace: str, found: list[Slice]) -> bytes:
    """Resources, and what changed; where something was held or decided there is a point."""
    chart = pygal.DateTimeLine(
        title=f"{namespace}: what was published",
        x_label_rotation=30,
        truncate_label=-1,
        x_value_formatter=lambda at: at.strftime("%Y-%m-%d %H:%M:%S"),
        js=[],
        no_data_text="nothing was published",
    )
    times = [datetime.fromtimestamp(one.from_ms / 1000, UTC).replace(tzinfo=None) for one in found]
    chart.add("resources", [(at, one.resources) for at, one in zip(times, found, strict=True)])
    chart.add(
        "changes a second",
        [(at, round(one.changes_per_s, 3)) for at, one in zip(times, found, strict=True)],
        secondary=True,
    )
    for name in ("holds", "decisions", "links"):
        points = [
            {"value": (at, one.resources), "label": ", ".join(getattr(one, name))}
            for at, one in zip(times, found, strict=True)
            if getattr(one, name)
        ]
        chart.add(name, points, stroke=False, dots_size=6)
    return chart.render()  # type: ignore[no-any-return]
