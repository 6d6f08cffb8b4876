"""Registers instances in Nacos over gRPC, as applications do: for the demo, the tests and the benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from producers.nacos.connection import Endpoint, NacosConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.events import Instance


class Registrar:
    """One application's connection to Nacos: what it registered goes when it is closed."""

    def __init__(self, url: str, namespace: str) -> None:
        parts = urlsplit(url)
        self._endpoint = Endpoint(f"{parts.hostname}:{(parts.port or 8848) + 1000}")
        self._namespace = namespace

    async def __aenter__(self) -> Self:
        """Connects."""
        self._connection = await NacosConnection(
            self._endpoint, namespace=self._namespace, on_push=lambda _: None
        ).open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnects: Nacos removes what was registered."""
        await self._connection.close()

    async def state(self, group: str, service: str, instances: Sequence[Instance]) -> None:
        """These, and no others, are our instances of the service."""
        if not instances:
            await self._request(group, service, "InstanceRequest", "deregisterInstance", instance=_EMPTY)
            return
        await self._request(
            group,
            service,
            "BatchInstanceRequest",
            "batchRegisterInstance",
            instances=[_to_nacos(instance) for instance in instances],
        )

    async def _request(self, group: str, service: str, kind: str, verb: str, **body: Any) -> None:
        await self._connection.request(
            kind,
            {"namespace": self._namespace, "groupName": group, "serviceName": service, "type": verb, **body},
        )


_EMPTY = {"ip": "127.0.0.1", "port": 1, "ephemeral": True, "clusterName": "DEFAULT"}
"""Nacos removes all of a connection's instances of a service, whichever is named."""


def _to_nacos(instance: Instance) -> dict[str, Any]:
    return {
        "ip": instance.ip,
        "port": instance.port,
        "clusterName": instance.cluster,
        "weight": instance.weight,
        "healthy": instance.healthy,
        "enabled": instance.enabled,
        "ephemeral": instance.ephemeral,
        "metadata": instance.metadata,
    }
