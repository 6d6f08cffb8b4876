"""The paths of Nacos 3.x: the admin's lists, and those for clients. Answers are `{code, message, data}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx

from producers.errors import NacosGarbageError, NacosRefusedError
from producers.nacos.http.listing import (
    PUBLIC,
    Counts,
    SweptService,
    config_items,
    counted_services,
    field,
    namespace_ids,
    objects,
    public_as,
    service_params,
    swept_services,
    threshold,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from producers.nacos.http.client import NacosHttp
    from producers.nacos.servers import Server
    from producers.settings import Mode
    from schemas.events import ConfigKey, Namespace, ServiceKey

_PAGE = 500
"""The most that 3.x gives on a page."""
_NO_SUCH_SERVICE = frozenset({400, 404, 20004, 21008})
"""What different versions answer of a service that is not there, as HTTP's status or as their own code."""
_SERVICES = "/v3/admin/ns/service/list"


class V3Api:
    """See `NacosApi`."""

    mode: Final[Mode] = "3.x"

    def __init__(self, http: NacosHttp, *, version: str) -> None:
        self.version = version
        self._http = http

    async def namespaces(self) -> frozenset[Namespace]:
        """The ids of all namespaces."""
        return namespace_ids(await self._get("/v3/admin/core/namespace/list", {}))

    async def count_services(self, namespace: Namespace) -> int:
        """The count that comes with a page of one service."""
        count = field(await self._services(namespace, 1, 1, with_instances=False), "totalCount", "a list")
        if not isinstance(count, int):
            raise NacosGarbageError(f"a list whose totalCount is {count!r:.100}")
        return count

    async def list_services(
        self, namespace: Namespace, *, server: Server | None = None
    ) -> dict[ServiceKey, Counts]:
        """Page after page of an unordered set: what a page skipped is found by a later listing."""
        found: dict[ServiceKey, Counts] = {}
        page, pages = 1, 1
        while page <= pages:
            answer = await self._services(namespace, page, _PAGE, with_instances=False, server=server)
            found |= counted_services(objects(field(answer, "pageItems", "a list"), "a list"))
            pages = _pages(answer)
            page += 1
        return found

    async def sweep_page(self, namespace: Namespace, page: int, size: int) -> list[SweptService]:
        """A page with instances."""
        answer = await self._services(namespace, page, min(size, _PAGE), with_instances=True)
        entries = field(answer, "pageItems", "a list with instances") if isinstance(answer, dict) else answer
        return swept_services(objects(entries, "a list with instances"))

    async def true_hosts(
        self,
        namespace: Namespace,
        key: ServiceKey,
        clusters: Collection[str],  # noqa: ARG002 - one call shows all of them
        *,
        server: Server | None = None,
    ) -> list[dict[str, Any]]:
        """One call; a service that is not there has no instances."""
        try:
            answer = await self._get("/v3/admin/ns/instance/list", service_params(namespace, key), server=server)
        except NacosRefusedError as error:
            if error.code != httpx.codes.NOT_FOUND:
                raise
            return []
        return objects(answer, "a list of instances")

    async def protect_threshold(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> float:
        """The service's protect threshold."""
        try:
            answer = await self._get("/v3/admin/ns/service", service_params(namespace, key), server=server)
        except NacosRefusedError as error:
            if error.code not in _NO_SUCH_SERVICE:
                raise
            return 0.0
        return threshold(field(answer, "protectThreshold", "a service"))

    async def visible_service(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> dict[str, Any]:
        """What clients of that server are given."""
        answer = await self._get("/v3/client/ns/instance/list", service_params(namespace, key), server=server)
        return {"name": key.service, "groupName": key.group, "hosts": answer}

    async def search_configs(self, namespace: Namespace, group: str) -> dict[ConfigKey, str | None]:
        """Page after page; texts are not listed."""
        found: dict[ConfigKey, str | None] = {}
        page, pages = 1, 1
        while page <= pages:
            params = {
                "search": "blur",
                "dataId": "*",
                "groupName": group,
                "namespaceId": public_as(namespace, PUBLIC),
                "pageNo": page,
                "pageSize": _PAGE,
            }
            answer = await self._get("/v3/admin/cs/config/list", params)
            found |= config_items(objects(field(answer, "pageItems", "a search"), "a search"), "groupName")
            pages = _pages(answer)
            page += 1
        return found

    async def _services(
        self, namespace: Namespace, page: int, size: int, *, with_instances: bool, server: Server | None = None
    ) -> Any:
        params = {
            "namespaceId": public_as(namespace, PUBLIC),
            "serviceNameParam": "",
            "groupNameParam": "",
            "ignoreEmptyService": "false",
            "withInstances": str(with_instances).lower(),
            "pageNo": page,
            "pageSize": size,
        }
        return await self._get(_SERVICES, params, server=server)

    async def _get(self, path: str, params: dict[str, Any], *, server: Server | None = None) -> Any:
        answer = await self._http.get(path, params, server=server)
        code = field(answer, "code", path)
        if code not in {0, 200}:
            raise NacosRefusedError(f"GET {path}", code, str(answer.get("message")))
        return answer.get("data")


def _pages(answer: dict[str, Any]) -> int:
    pages = answer.get("pagesAvailable")
    return pages if isinstance(pages, int) else 1
