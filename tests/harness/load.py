"""Applications that register services in Nacos and change them at random, as fast as is wanted."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass, field

from schemas.events import Instance
from shiplog.local_stack.registrar import Registrar

GROUP = "DEFAULT_GROUP"


def make_instance(service: int, index: int, network: int = 10) -> Instance:
    """The index-th instance of the numbered service, in that network: the first number of its address."""
    return Instance(
        ip=f"{network}.{service // 250}.{service % 250}.{index + 1}",
        port=8080,
        cluster="DEFAULT",
        weight=1.0,
        healthy=True,
        enabled=True,
        ephemeral=True,
        metadata={"version": "v1", "rev": "0"},
    )


@dataclass
class Load:
    """What is registered in a namespace; runs on an event loop of its own thread.

    Every change raises a counter in an instance's metadata, so no state of the registry comes twice.
    """

    url: str
    namespace: str
    seed: int = 1
    network: int = 10
    services: dict[str, list[Instance]] = field(default_factory=dict)
    changes: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._registrar = Registrar(self.url, self.namespace)
        self._call(self._registrar.__aenter__())

    def _call(self, coroutine):  # noqa: ANN001, ANN202
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def register(self, services: int, instances: int) -> None:
        """svc-0 to svc-n, each with so many instances."""
        self._call(self._register(services, instances))

    def change(self, times: int, per_second: float = 1000) -> None:
        """Random changes: add, remove, weight, metadata, disable; no service loses its last instance."""
        self._call(self._change(times, per_second))

    def state(self, service: str, instances: list[Instance], group: str = GROUP) -> None:
        """Exactly these instances of a service."""
        self.services[service] = instances
        self._call(self._registrar.state(group, service, instances))

    def close(self) -> None:
        self._call(self._registrar.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _register(self, services: int, instances: int) -> None:
        names = iter(range(services))

        async def worker() -> None:
            for number in names:
                name = f"svc-{number}"
                self.services[name] = [make_instance(number, index, self.network) for index in range(instances)]
                await self._registrar.state(GROUP, name, self.services[name])

        await asyncio.gather(*(worker() for _ in range(32)))

    async def _change(self, times: int, per_second: float) -> None:
        for _ in range(times):
            self.changes += 1
            name = self._dice.choice(list(self.services))
            self.services[name] = self._changed(self.services[name], int(name.removeprefix("svc-")))
            await self._registrar.state(GROUP, name, self.services[name])
            await asyncio.sleep(1 / per_second)

    def _changed(self, instances: list[Instance], service: int) -> list[Instance]:
        index = self._dice.randrange(len(instances))
        marked = {**instances[index].metadata, "rev": str(self.changes)}
        chosen = instances[index]._replace(metadata=marked)
        others = instances[:index] + instances[index + 1 :]
        match self._dice.choice(("add", "remove", "weight", "metadata", "disable")):
            case "add" if len(instances) < 60:
                taken = {instance.ip for instance in instances}
                spare = next(
                    new for i in range(200) if (new := make_instance(service, i, self.network)).ip not in taken
                )
                return [*others, chosen, spare._replace(metadata=marked)]
            case "remove" if sum(instance.enabled for instance in others) > 0:
                # The removal alone could bring a former state back: a neighbour carries the counter.
                head = others[0]._replace(metadata={**others[0].metadata, "rev": str(self.changes)})
                return [head, *others[1:]]
            case "disable" if sum(instance.enabled for instance in others) > 0:
                head = others[0]._replace(metadata={**others[0].metadata, "rev": str(self.changes)})
                return [head, *others[1:], chosen._replace(enabled=not chosen.enabled)]
            case "weight":
                weight = self._dice.choice((0.0, 0.333, 0.5, 1.0, 2.5, 100.0))
                return [*others, chosen._replace(weight=weight)]
            case _:
                return [*others, chosen]


def expected_endpoints(namespace: str, hosts: dict[tuple[str, str], list[dict]]) -> dict[str, set]:
    """What Pilots must hold, from what Nacos says, worked out apart from shiplog's own conversion."""
    found = {}
    for (_, service), instances in hosts.items():
        if not instances:
            continue
        found[f"{namespace}/{service}.default-group.{namespace}"] = {
            (
                host["ip"],
                host["port"],
                max(1, round(host["weight"] * 100)),
                frozenset({**host["metadata"], "cluster": host["clusterName"]}.items()),
            )
            for host in instances
            if host["enabled"] and host["healthy"] and host["weight"] > 0
        }
    return found
