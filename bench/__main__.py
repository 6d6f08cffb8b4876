"""`python -m bench NAME`: runs one benchmark, or all of them."""

from __future__ import annotations

import argparse

from bench import (
    bootstrap,
    change_cost,
    discovery,
    failover,
    fanout,
    fold,
    keyframe,
    lag,
    latency,
    listen,
    namespaces,
    pilots,
    recover,
    replay,
    retention,
)

BENCHMARKS = {
    "fold": fold.run,
    "latency": latency.run,
    "change-cost": change_cost.run,
    "listen": listen.run,
    "keyframe": keyframe.run,
    "discovery": discovery.run,
    "namespaces": namespaces.run,
    "recover": recover.run,
    "lag": lag.run,
    "failover": failover.run,
    "fanout": fanout.run,
    "pilots": pilots.run,
    "bootstrap": bootstrap.run,
    "replay": replay.run,
    "retention": retention.run,
}

ALSO_CALLED = {"memory": "recover", "gateway-scale": "pilots"}
"""What one benchmark measures beside what it is called for."""


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, *ALSO_CALLED, "all"])
    parser.add_argument("--quick", action="store_true", help="smaller and shorter, to try it out")
    arguments = parser.parse_args()
    asked = ALSO_CALLED.get(arguments.name, arguments.name)
    for name, run in BENCHMARKS.items():
        if asked in {name, "all"}:
            print(f"== {name}", flush=True)
            run(quick=arguments.quick)


if __name__ == "__main__":
    main()
