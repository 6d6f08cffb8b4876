"""The paths of Nacos 1.x and 2.x: the console's lists, and those for clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from producers.errors import NacosGarbageError, NacosRefusedError
from producers.nacos.http.listing import (
    Listing,
    SweptService,
    config_items,
    counted_services,
    field,
    namespace_ids,
    objects,
    pages_of,
    public_as,
    service_params,
    swept_services,
    threshold,
    unreadable_is_garbage,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from producers.nacos.http.client import NacosHttp
    from producers.nacos.servers import Server
    from producers.settings import Mode
    from schemas.events import ConfigKey, Namespace, ServiceKey

ALL_ON_ONE_PAGE = 1_000_000
"""Pages are cut from unordered sets, so two of them may skip or repeat: one page holds all."""
_CONFIG_PAGE = 200
_NO_SUCH_SERVICE = frozenset({400, 404})
"""What different versions answer of a service that is not there."""
_CATALOG = "/v1/ns/catalog/services"


class V1Api:
    """See `NacosApi`."""

    def __init__(self, http: NacosHttp, *, mode: Mode, version: str) -> None:
        self.mode = mode
        self.version = version
        self._http = http
        # 1.x counts the pages of the list with instances from 0.
        self._first_page = 0 if mode == "1.x" else 1

    @unreadable_is_garbage
    async def namespaces(self) -> frozenset[Namespace]:
        """The ids of all namespaces."""
        return namespace_ids(field(await self._http.get("/v1/console/namespaces", {}), "data", "namespaces"))

    @unreadable_is_garbage
    async def count_services(self, namespace: Namespace) -> int:
        """The count that comes with a page of one service."""
        params = _without_instances(namespace, page_size=1)
        count = field(await self._http.get(_CATALOG, params), "count", "a catalog")
        if not isinstance(count, int):
            raise NacosGarbageError(f"a catalog whose count is {count!r:.100}")
        return count

    @unreadable_is_garbage
    async def list_services(self, namespace: Namespace, *, server: Server | None = None) -> Listing:
        """All on one page."""
        params = _without_instances(namespace, page_size=ALL_ON_ONE_PAGE)
        answer, answered = await self._http.get_answer(_CATALOG, params, server=server)
        services, unusable = counted_services(objects(field(answer, "serviceList", "a catalog"), "a catalog"))
        return Listing(services, unusable, answered)

    @unreadable_is_garbage
    async def sweep_page(self, namespace: Namespace, page: int, size: int) -> list[SweptService]:
        """A page with instances; they do not say whether they are ephemeral."""
        params = {
            "withInstances": "true",
            "pageNo": page - 1 + self._first_page,
            "pageSize": size,
            "namespaceId": public_as(namespace, ""),
        }
        return swept_services(objects(await self._http.get(_CATALOG, params), "a catalog with instances"))

    @unreadable_is_garbage
    async def true_hosts(
        self, namespace: Namespace, key: ServiceKey, clusters: Collection[str], *, server: Server | None = None
    ) -> list[dict[str, Any]]:
        """One call for each cluster; a cluster or service that is not there has no instances."""
        found: list[dict[str, Any]] = []
        for cluster in sorted(clusters):
            params = {
                "namespaceId": public_as(namespace, ""),
                "serviceName": f"{key.group}@@{key.service}",
                "groupName": key.group,
                "clusterName": cluster,
                "pageNo": 1,
                "pageSize": ALL_ON_ONE_PAGE,
            }
            try:
                answer = await self._http.get("/v1/ns/catalog/instances", params, server=server)
            except NacosRefusedError as error:
                if error.code != httpx.codes.NOT_FOUND:
                    raise
                continue
            found += objects(field(answer, "list", "a catalog of instances"), "a catalog of instances")
        return found

    @unreadable_is_garbage
    async def protect_threshold(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> float:
        """The service's protect threshold."""
        try:
            answer = await self._http.get("/v1/ns/service", service_params(namespace, key), server=server)
        except NacosRefusedError as error:
            if error.code not in _NO_SUCH_SERVICE:
                raise
            return 0.0
        return threshold(field(answer, "protectThreshold", "a service"))

    @unreadable_is_garbage
    async def visible_service(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> dict[str, Any]:
        """What clients of that server are given."""
        params = {"serviceName": f"{key.group}@@{key.service}", "namespaceId": public_as(namespace, "public")}
        answer = await self._http.get("/v1/ns/instance/list", params, server=server)
        return {
            "name": key.service,
            "groupName": key.group,
            "hosts": objects(field(answer, "hosts", "a list of instances") or [], "a list of instances"),
        }

    @unreadable_is_garbage
    async def search_configs(self, namespace: Namespace, group: str) -> dict[ConfigKey, str | None]:
        """Page after page; an item that moves between two of them is found next time."""
        found: dict[ConfigKey, str | None] = {}
        page, pages = 1, 1
        while page <= pages:
            params = {
                "search": "blur",
                "dataId": "*",
                "group": group,
                "tenant": public_as(namespace, ""),
                "pageNo": page,
                "pageSize": _CONFIG_PAGE,
            }
            answer = await self._http.get("/v1/cs/configs", params)
            items = objects(field(answer, "pageItems", "a search"), "a search")
            found |= config_items(items, "group")
            pages = pages_of(answer) if items else 0
            page += 1
        return found


def _without_instances(namespace: Namespace, *, page_size: int) -> dict[str, Any]:
    return {
        "withInstances": "false",
        "pageNo": 1,
        "pageSize": page_size,
        "namespaceId": public_as(namespace, ""),
    }
