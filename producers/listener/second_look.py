"""After a reconnect: whether another server still has what the connected one lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.errors import NacosError
from producers.listener import observation as known
from producers.nacos.service_info import parse_hosts, parse_service_info

if TYPE_CHECKING:
    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.servers import Server
    from schemas.events import ServiceKey


async def is_held_elsewhere(
    watched: Watched, connection: NacosConnection, connected: Server | None, key: ServiceKey
) -> bool:
    """Whether another server has instances of ours that the connected one lacks.

    Where no other one answers, the connected one is believed: an instance that is gone must not get traffic
    because a node is down. Raises NacosError where the connected one can't tell.
    """
    others = [server for server in await watched.cluster.servers.all() if server != connected]
    former = watched.view.observed.get(key)
    if not others or former is None:
        return False
    answer = await connection.request(
        "ServiceQueryRequest",
        {
            "namespace": watched.namespace,
            "groupName": key.group,
            "serviceName": key.service,
            "cluster": "",
            "healthyOnly": False,
        },
    )
    here = parse_service_info(answer.get("serviceInfo")).hosts.instances
    if not known.lacks(former, here):
        return False
    missing = {instance.key for instance in former.visible} - {instance.key for instance in here}
    for server in others:
        try:
            api = await watched.cluster.api()
            info = await api.visible_service(watched.namespace, key, server=server)
        except NacosError:
            continue
        hosts = parse_hosts(info.get("hosts") or (), portless=key.is_of_consumers)
        if any(one.key in missing for one in hosts.instances):
            return True
    return False
