"""What a change costs: CPU seconds of all our processes, against Nacos's own istio module.

The same Nacos, the same load, one after the other in one run: first nobody listens, then one MCP client is
connected to Nacos's own module, then shiplog runs with one MCP client, of full and of incremental pushes.
Nacos's cost without a listener is taken off both.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.stack import cpu_seconds, raw_client, registered, running, servers

if TYPE_CHECKING:
    from shiplog.local_stack.child import Child
    from tests.harness.load import Load

NACOS_MCP = "127.0.0.1:18848"
PER_SECOND = 0.5


def run(*, quick: bool) -> None:
    """Prints CPU seconds per process and window, and the ratio."""
    services, window = (500, 10) if quick else (10_000, 30)
    with servers(istio_module=True) as (kafka, nacos, folder), registered(nacos, services, 20) as load:
        time.sleep(5)
        idle = spent_on([nacos.child], load, window)["Nacos"]
        print(f"{services:,} services of 20, {PER_SECOND} changes/s, windows of {window} s")
        print(f"    nobody listens:      Nacos {idle:6.2f} CPU-s", flush=True)
        with raw_client(NACOS_MCP, folder, "nacos"):
            time.sleep(10)
            own = spent_on([nacos.child], load, window)["Nacos"]
        print(
            f"    Nacos's own module:  Nacos {own:6.2f} CPU-s, {own - idle:.2f} of them for its clients",
            flush=True,
        )
        for kind in ("full", "incremental"):
            with (
                running(kafka, nacos, folder, f"cost-{kind}") as processes,
                raw_client(processes[2].address, folder, kind),
            ):
                time.sleep(10)
                children = [process.child for process in processes]
                spent = spent_on([nacos.child, kafka.child, *children], load, window)
            ours = sum(spent[child.name] for child in children)
            parts = ", ".join(f"{child.name.split('-')[0]} {spent[child.name]:.2f}" for child in children)
            print(
                f"    shiplog, {kind:12} {ours:6.2f} CPU-s ({parts}); beside them "
                f"Nacos {spent['Nacos'] - idle:+.2f}, Kafka {spent['Kafka']:.2f}; "
                f"Nacos's own module costs {(own - idle) / ours:.0f} times that",
                flush=True,
            )


def spent_on(children: list[Child], load: Load, window: float) -> dict[str, float]:
    """CPU seconds of each child while changes go on."""
    before = {child.name: cpu_seconds(child) for child in children}
    load.change(int(window * PER_SECOND), per_second=PER_SECOND)
    return {child.name: cpu_seconds(child) - before[child.name] for child in children}
