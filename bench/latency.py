"""From Nacos's push to the client, stage by stage.

Real Nacos, Kafka and processes; a raw MCP client, with full pushes and with incremental ones. Each changed service
is followed by its place in the log: when its push was received, when its event was written, when a snapshot that
holds it was written, and when a client first had such a snapshot.
"""

from __future__ import annotations

import bisect
import time
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from bench.stack import raw_client, registered, running, servers
from schemas.avro_codec import codecs
from schemas.events import ServiceDelta
from schemas.topics import REGISTRY_EVENTS, SNAPSHOT_HISTORY
from tests.harness.logs import read_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.servers import KafkaServer

STAGES = ("push -> event", "event -> snapshot", "snapshot -> client", "push -> client")


@dataclass(frozen=True, slots=True)
class Followed:
    """A change's times, in seconds."""

    pushed: float
    event: float
    snapshot: float
    client: float

    def stages(self) -> tuple[float, ...]:
        """In the order of STAGES."""
        return (
            self.event - self.pushed,
            self.snapshot - self.event,
            self.client - self.snapshot,
            self.client - self.pushed,
        )


def run(*, quick: bool) -> None:
    """Prints p50 and p99 of each stage for 2,000 and 10,000 services at 20 and 200 changes a second."""
    seconds = 10 if quick else 30
    with servers() as (kafka, nacos, folder):
        for services in (200,) if quick else (2000, 10_000):
            with registered(nacos, services, 20) as load:
                for per_second, kind in product((20, 200), ("full", "incremental")):
                    group = f"latency-{services}-{per_second}-{kind}"
                    with (
                        running(kafka, nacos, folder, group) as (_, _, gateway),
                        raw_client(gateway.address, folder, kind) as out,
                    ):
                        time.sleep(5)
                        began = time.time()
                        load.change(per_second * seconds, per_second=per_second)
                        time.sleep(3)
                        report(
                            f"{services:,} services of 20, {kind} pushes", per_second, follow(kafka, out, began)
                        )
                        sizes = sorted(int(line.split()[2]) for line in out.read_text().splitlines())
                        print(f"    a push has {sizes[len(sizes) // 2] / 1e6:.3f} MB (median)", flush=True)


def follow(kafka: KafkaServer, out: Path, began: float) -> list[Followed]:
    """Every delta event since `began` that reached the client."""
    c = codecs()
    snapshots = sorted(
        (next(iter(manifest.version.values())), message.timestamp()[1] / 1000, manifest.digest)
        for message in read_all(kafka, SNAPSHOT_HISTORY)
        if (manifest := c.manifest.decode(message.value())).version
    )
    # With one namespace and one collection the client's version is the manifest's digest.
    offset_of = {digest: offset for offset, _, digest in snapshots}
    arrivals = sorted(
        (offset_of[version], float(at))
        for version, at, _ in (line.split() for line in out.read_text().splitlines())
        if version in offset_of
    )
    found = []
    for message in read_all(kafka, REGISTRY_EVENTS):
        event = c.registry_event.decode(message.value())
        if not isinstance(event.body, ServiceDelta) or event.observed_at / 1e6 < began:
            continue
        at_snapshot = bisect.bisect_left(snapshots, (message.offset(),))
        at_client = bisect.bisect_left(arrivals, (message.offset(),))
        if at_snapshot < len(snapshots) and at_client < len(arrivals):
            found.append(
                Followed(
                    event.observed_at / 1e6,
                    message.timestamp()[1] / 1000,
                    snapshots[at_snapshot][1],
                    arrivals[at_client][1],
                )
            )
    return found


def report(what: str, per_second: int, found: list[Followed]) -> None:
    """Prints one table."""
    print(f"{what}, {per_second} changes/s: {len(found):,} changes followed", flush=True)
    for index, name in enumerate(STAGES):
        values = sorted(each.stages()[index] * 1000 for each in found)
        if values:
            p50, p99 = values[len(values) // 2], values[int(len(values) * 0.99)]
            print(f"    {name:20} p50 {p50:7.1f} ms   p99 {p99:7.1f} ms", flush=True)
