"""`shiplog explain`: why a service's entry is as it is."""

from __future__ import annotations

from typing import Annotated

import typer

from consumers.audit.explanation import Explanation
from schemas.events import ServiceKey
from shiplog.audit.logs import open_namespace, version_at
from shiplog.audit.options import NamespaceOption, TimeOption, moment
from shiplog.audit.output import AuditOutput, progress, show
from shiplog.errors import CommandError
from shiplog.options import ConfigOption  # noqa: TC001 - typer reads it
from shiplog.settings import read_command_settings


def explain(
    namespace: NamespaceOption,
    service: Annotated[str, typer.Option("--service", "-s", help="Nacos's name, or group@@name.")],
    group: Annotated[str, typer.Option("--group", "-g", help="Nacos's group.")] = "DEFAULT_GROUP",
    time: TimeOption = "now",
    config: ConfigOption = None,
    output: AuditOutput = "table",
) -> None:
    """Which instances of a service Pilots get, which not and why, which rule sets what, who else wants its names.

    Reads the log as an audit does, with its permissions; needs the settings that the materializers have.

    Example: shiplog explain -n public -s orders
    """
    settings = read_command_settings(config)
    if "@@" in service:
        group, _, service = service.partition("@@")
    key = ServiceKey(group, service)
    with open_namespace(settings, namespace) as log:
        published = version_at(log, moment(time))
        explanation = Explanation(settings.conversion, settings.materializer.guard, published.manifest, key)
        with progress("events folded", log.events_to_read(published)) as each:
            for topic, offset, event in log.events_of(published, each):
                explanation.apply(topic, offset, event)
        answer = explanation.answer()
    if not answer["found"]:
        raise CommandError(
            f"no service {group}@@{service} in namespace {namespace} then; "
            f"`shiplog audit timeline -n {namespace}` lists what changed, --group names another group"
        )
    show(answer, output)
