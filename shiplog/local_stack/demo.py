"""A few applications that come, change and go, so that there is something to watch."""

from __future__ import annotations

import asyncio
import random
import sys

from producers.errors import NacosError
from schemas.events import Instance
from shiplog.local_stack.registrar import Registrar

_SERVICES = {"orders": 8080, "payments": 8443, "users": 9000, "inventory": 8081}
_GROUP = "DEFAULT_GROUP"
_PAUSE_S = 3.0
_MOST = 6


def first_instances(service: str, port: int, number: int) -> list[Instance]:
    """Three instances of a service."""
    return [instance(service, port, number, index) for index in range(1, 4)]


def instance(service: str, port: int, number: int, index: int) -> Instance:
    """One instance of a service."""
    return Instance(
        ip=f"10.20.{number}.{index}",
        port=port,
        cluster="DEFAULT",
        weight=1.0,
        healthy=True,
        enabled=True,
        ephemeral=True,
        metadata={"version": "v1", "zone": "a" if index % 2 else "b", "region": "eu", "app": service},
    )


def changed(instances: list[Instance], spare: Instance, dice: random.Random) -> list[Instance]:
    """The instances after one random change: one more, one fewer, another weight or version."""
    index = dice.randrange(len(instances))
    chosen = instances[index]
    match dice.choice(("more", "fewer", "weight", "version", "disabled")):
        case "more" if len(instances) < _MOST and spare.key not in {i.key for i in instances}:
            return [*instances, spare]
        case "fewer" if len(instances) > 1:
            return instances[:index] + instances[index + 1 :]
        case "version":
            other = "v2" if chosen.metadata["version"] == "v1" else "v1"
            return _with(instances, index, chosen._replace(metadata={**chosen.metadata, "version": other}))
        case "disabled":
            return _with(instances, index, chosen._replace(enabled=not chosen.enabled))
        case _:
            return _with(instances, index, chosen._replace(weight=float(dice.choice((0.5, 1, 2, 5)))))


def _with(instances: list[Instance], index: int, new: Instance) -> list[Instance]:
    return [*instances[:index], new, *instances[index + 1 :]]


async def run(url: str) -> None:
    """Registers the services and changes one of them every few seconds; begins again when Nacos goes."""
    dice = random.Random()  # noqa: S311 - a demo
    while True:
        try:
            async with Registrar(url, "public") as registrar:
                services = {
                    name: first_instances(name, port, number)
                    for number, (name, port) in enumerate(_SERVICES.items(), start=1)
                }
                for name, instances in services.items():
                    await registrar.state(_GROUP, name, instances)
                while True:
                    await asyncio.sleep(_PAUSE_S)
                    number, name = dice.choice(list(enumerate(_SERVICES, start=1)))
                    spare = instance(name, _SERVICES[name], number, dice.randrange(4, 100))
                    services[name] = changed(services[name], spare, dice)
                    await registrar.state(_GROUP, name, services[name])
        except NacosError as error:
            sys.stderr.write(f"demo: {error}; trying again\n")
            await asyncio.sleep(2)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
