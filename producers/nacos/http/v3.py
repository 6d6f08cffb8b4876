"""The paths of Nacos 3.x: the admin's lists, and those for clients. Answers are `{code, message, data}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx

from producers.errors import NacosGarbageError, NacosRefusedError
from producers.nacos.http.listing import (
    PUBLIC,
    Counts,
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

    @unreadable_is_garbage
    async def namespaces(self) -> frozenset[Namespace]:
        """The ids of all namespaces."""
        return namespace_ids(await self._get("/v3/admin/core/namespace/list", {}))

    @unreadable_is_garbage
    async def count_services(self, namespace: Namespace) -> int:
        """The count that comes with a page of one service."""
        answer, _ = await self._services(namespace, 1, 1, with_instances=False)
        count = field(answer, "totalCount", "a list")
        if not isinstance(count, int):
            raise NacosGarbageError(f"a list whose totalCount is {count!r:.100}")
        return count

    @unreadable_is_garbage
    async def list_services(self, namespace: Namespace, *, server: Server | None = None) -> Listing:
        """Page after page of an unordered set, all of one server: a later listing finds what a page skipped."""
        found: dict[ServiceKey, Counts] = {}
        page, pages, unusable = 1, 1, 0
        while page <= pages:
            answer, server = await self._services(namespace, page, _PAGE, with_instances=False, server=server)
            entries = objects(field(answer, "pageItems", "a list"), "a list")
            services, unusable_here = counted_services(entries)
            found |= services
            unusable += unusable_here
            pages = pages_of(answer) if entries else 0
            page += 1
        if server is None:
            raise NacosGarbageError("a list without a page")
        return Listing(found, unusable, server)

    @unreadable_is_garbage
    async def sweep_page(self, namespace: Namespace, page: int, size: int) -> list[SweptService]:
        """A page with instances."""
        answer, _ = await self._services(namespace, page, min(size, _PAGE), with_instances=True)
        entries = field(answer, "pageItems", "a list with instances") if isinstance(answer, dict) else answer
        return swept_services(objects(entries, "a list with instances"))

    @unreadable_is_garbage
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

    @unreadable_is_garbage
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

    @unreadable_is_garbage
    async def visible_service(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> dict[str, Any]:
        """What clients of that server are given."""
        answer = await self._get("/v3/client/ns/instance/list", service_params(namespace, key), server=server)
        return {
            "name": key.service,
            "groupName": key.group,
            "hosts": objects(answer or [], "a list of instances"),
        }

    @unreadable_is_garbage
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
            items = objects(field(answer, "pageItems", "a search"), "a search")
            found |= config_items(items, "groupName")
            pages = pages_of(answer) if items else 0
            page += 1
        return found

    async def _services(
        self, namespace: Namespace, page: int, size: int, *, with_instances: bool, server: Server | None = None
    ) -> tuple[Any, Server]:
        params = {
            "namespaceId": public_as(namespace, PUBLIC),
            "serviceNameParam": "",
            "groupNameParam": "",
            "ignoreEmptyService": "false",
            "withInstances": str(with_instances).lower(),
            "pageNo": page,
            "pageSize": size,
        }
        answer, answered = await self._http.get_answer(_SERVICES, params, server=server)
        return _data(answer, _SERVICES), answered

    async def _get(self, path: str, params: dict[str, Any], *, server: Server | None = None) -> Any:
        return _data(await self._http.get(path, params, server=server), path)


def _data(answer: Any, path: str) -> Any:
    code = field(answer, "code", path)
    if code not in {0, 200}:
        raise NacosRefusedError(f"GET {path}", code if isinstance(code, int) else -1, str(answer.get("message")))
    return answer.get("data")
