"""The live view of `shiplog up`: what the three processes say of themselves, once a second."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Group
from rich.panel import Panel
from rich.table import Table

from shiplog.local_stack.stack import PROCESSES, state_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shiplog.local_stack.stack import LocalStack

_EVENTS_SHOWN = 8


class LiveView:
    """Asks the admin pages and draws them; a process that does not answer is shown as such."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._addresses = stack.addresses()
        self._versions: dict[str, Any] = {}
        self._events: deque[str] = deque(maxlen=_EVENTS_SHOWN)

    def note(self, line: str) -> None:
        """Shows a line among the events."""
        self._events.append(f"{datetime.now(UTC).astimezone():%H:%M:%S}  {line}")

    def draw(self) -> RenderableType:
        """The view as it is now."""
        snapshot = self._ask("gateway", "snapshot")
        pilots = self._ask("gateway", "pilots").get("pilots", [])
        links = self._ask("listener", "services").get("namespaces", {})
        namespaces = snapshot.get("namespaces", {})
        for name, held in namespaces.items():
            if self._versions.get(name) not in (None, held["version"]):
                offsets = " ".join(str(offset) for offset in (held["version"] or {}).values())
                self.note(f"{name} at {offsets}: {', '.join(held['changes'])}")
            self._versions[name] = held["version"]
        return Group(
            self._address_panel(),
            *self._state_panel(),
            _namespace_table(namespaces, links),
            _pilot_table(pilots),
            Panel("\n".join(self._events) or "nothing yet", title="last events", title_align="left"),
            "Ctrl-C ends everything.  In another terminal: shiplog watch",
        )

    def _address_panel(self) -> Panel:
        addresses = self._addresses
        lines = [
            f"Nacos    {addresses['nacos']}/nacos",
            f"Kafka    {addresses['kafka']}",
            f"gateway  {addresses['gateway']}  (MCP and ADS)",
            "admin    "
            + "  ".join(addresses[f"{name}_admin"] for name in ("listener", "materializer", "gateway")),
            f"logs     {addresses['data_dir']}/logs",
        ]
        return Panel("\n".join(lines), title="shiplog", title_align="left")

    def _state_panel(self) -> list[Panel]:
        """What the processes wait for and what is stale; nothing where all is well."""
        lines = []
        for name in PROCESSES:
            state = state_of(self._stack.admin_port(name))
            if not state.is_ready:
                lines.append(f"the {name} is not ready: {state.waiting_for or 'it does not answer'}")
            elif state.stale:
                lines.append(f"the {name} has stale data: {state.stale}")
        return [Panel("\n".join(lines), title="not well", title_align="left", style="yellow")] if lines else []

    def _ask(self, process: str, page: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = httpx.get(
                f"{self._addresses[f'{process}_admin']}/debug/{page}", timeout=1
            ).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return answer


def _namespace_table(namespaces: dict[str, Any], links: dict[str, Any]) -> Table:
    table = Table("namespace", "link", "services", "resources", "version", "digest", expand=True)
    for name, held in sorted(namespaces.items()):
        offsets = " ".join(str(offset) for offset in (held["version"] or {}).values())
        link = links.get(name, {})
        table.add_row(
            name,
            str(link.get("link", "?")),
            str(link.get("services", "?")),
            str(held["resources"]),
            offsets,
            str(held["digest"] or "")[:12],
        )
    return table


def _pilot_table(pilots: list[dict[str, Any]]) -> Table:
    table = Table("Pilot", "protocol", "connected", "collections", "Nacos push -> ACK", expand=True)
    for pilot in pilots:
        latency = pilot["push_to_ack_ms"]
        table.add_row(
            f"{pilot['peer']} {pilot['node']}".strip(),
            pilot["protocol"],
            f"{pilot['connected_s']:.0f} s",
            str(len(pilot["collections"])),
            "-" if latency is None else f"{latency:.0f} ms",
        )
    return table
