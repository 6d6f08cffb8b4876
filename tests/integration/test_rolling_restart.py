"""Gateways are replaced one after the other under a hundred Pilots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.harness.load import make_instance
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes

PILOTS = 100
SERVICES = 20


def test_a_rolling_restart_loses_nothing_and_empties_nothing(
    processes: Processes, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """Every Pilot ends with every change, none was ever sent less than everything, and all moved by themselves."""
    load.register(SERVICES, 2)
    _, _, first = processes.start_all()
    gateways = [first, *(processes.start("gateway") for _ in range(2))]
    for gateway in gateways:
        gateway.wait()
    addresses = [gateway.address for gateway in gateways]
    fleet = [
        pilots(*addresses[number % 3 :], *addresses[: number % 3], protocol=("mcp", "ads")[number % 2])
        for number in range(PILOTS)
    ]
    wait_for(lambda: all(pilot.versions for pilot in fleet), timeout_s=30, what="a first push for all")
    for turn, gateway in enumerate(gateways):
        load.state("svc-0", [make_instance(0, turn + 10)])
        gateway.child.terminate()
        gateway.child.stop(15)
        load.state("svc-1", [make_instance(1, turn + 10)])
        wait_for(
            lambda: sum(len(one.debug("pilots")["pilots"]) for one in gateways if one.child.running) == PILOTS,
            timeout_s=20,
            what="all Pilots at the other gateways",
        )
        gateway.start()
        gateway.wait()
    load.state("svc-2", [make_instance(2, 99)])
    started = time.monotonic()
    wait_for(
        lambda: all("10.0.2.100" in {e[0] for e in _endpoints(pilot, "svc-2.")} for pilot in fleet),
        timeout_s=20,
        what="the last change everywhere",
    )
    assert time.monotonic() - started < 10
    assert len({pilot.versions[-1] for pilot in fleet}) == 1
    assert all(size == SERVICES for pilot in fleet for size in pilot.sizes), "a push was not everything"


def _endpoints(pilot: Pilot, service: str) -> set[tuple[object, ...]]:
    return {e for name, found in pilot.endpoints().items() if f"/{service}" in name for e in found}
