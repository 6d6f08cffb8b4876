"""How soon a new service is seen among many, on a real Nacos, and what the looking costs it."""

from __future__ import annotations

import statistics
import time

from bench.stack import NAMESPACE, cpu_seconds, registered, servers
from tests.harness.load import make_instance
from tests.harness.processes import Processes

TIMES = 20
IDLE_S = 30.0


def run(*, quick: bool) -> None:
    """Prints seconds from registration to the listener's event, and CPU seconds of an idle half minute."""
    services, times, idle = (500, 5, 5.0) if quick else (10_000, TIMES, IDLE_S)
    with servers() as (kafka, nacos, folder), registered(nacos, services, 5) as load:
        kafka.renew_topics()
        time.sleep(5)
        alone = cpu_seconds(nacos.child)
        time.sleep(idle)
        alone = cpu_seconds(nacos.child) - alone
        processes = Processes(folder, kafka, nacos, [NAMESPACE], group="discovery")
        try:
            listener = processes.start("listener")
            listener.wait()
            time.sleep(10)
            watched, ours = cpu_seconds(nacos.child), cpu_seconds(listener.child)
            time.sleep(idle)
            watched, ours = cpu_seconds(nacos.child) - watched, cpu_seconds(listener.child) - ours
            seen = []
            for number in range(times):
                events = listener.metric("shiplog_listener_events_total", kind="ServiceState")
                began = time.monotonic()
                load.state(f"new-{number}", [make_instance(number, 1)])
                while listener.metric("shiplog_listener_events_total", kind="ServiceState") == events:
                    time.sleep(0.01)
                seen.append(time.monotonic() - began)
                time.sleep(0.3 + number % 7 / 10)
        finally:
            processes.stop()
    print(
        f"    a new service among {services:,}: seen after {statistics.median(seen):.2f} s (median of {times}), "
        f"{max(seen):.2f} s at most"
    )
    print(
        f"    {idle:.0f} s without a change: Nacos {alone:.2f} CPU-s alone, {watched:.2f} with the listener, "
        f"which used {ours:.2f} itself"
    )
