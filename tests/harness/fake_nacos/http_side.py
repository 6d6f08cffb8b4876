"""The fake server's HTTP: the paths of 1.x and 2.x, or those of 3.x."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.harness.fake_nacos.registry import Service

if TYPE_CHECKING:
    from tests.harness.fake_nacos.registry import Key, Registry

_OLD = ("/v1/console", "/v1/ns", "/v1/cs", "/v1/auth")


class HttpSide:
    """Answers; all on one event loop. With users, a login gives a token that all other calls need."""

    def __init__(self, registry: Registry, *, version: str, users: dict[str, str] | None) -> None:
        self.registry = registry
        self.version = version
        self.token: str | None = None
        self.logins = 0
        self.token_life_s = 18000.0
        self.refused_logins = 0
        self.count_all = False
        """Counts services that lists leave out."""
        self.hosts: set[str] = set()
        self.only_host: str | None = None
        """An ingress: requests with another Host are answered with 404."""
        self._users = users
        self._is_new = version.startswith("3")

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.route("*", "/nacos{path:.*}", self._answer)])
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        faults = self.registry.faults
        while faults.silent:  # noqa: ASYNC110 - a switch of the test's thread
            await asyncio.sleep(0.1)
        path = request.match_info["path"]
        self.registry.asked.append(path)
        self.hosts.add(request.host)
        if self.only_host is not None and request.host.split(":")[0] != self.only_host:
            return web.Response(status=404, text="default backend - 404")
        if faults.starting:
            return web.Response(status=503, text="server is STARTING now, please try again later!")
        if self._is_new and path.startswith(_OLD):
            return web.Response(status=410, text="Current API will be deprecated")
        if path.endswith(("/auth/login", "/auth/user/login")):
            return await self._log_in(request)
        if path == ("/v3/admin/core/state" if self._is_new else "/v1/console/server/state"):
            state = {"version": self.version, "standalone_mode": "standalone"}
            return web.json_response(_data(state) if self._is_new else state)
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._users is not None and (sent != self.token or sent in faults.refuse_tokens):
            return web.Response(status=403, text="unknown user!")
        if faults.config_center_away and "/cs/" in path:
            return web.Response(status=500, text="caused: No DataSource set;")
        if faults.listing_code and request.query.get("withInstances") == "false":
            return web.Response(status=faults.listing_code, text="Accept exceeded fixed size of 857")
        if faults.garbage_lists and ("catalog" in path or "/list" in path):
            return web.Response(text="<html>not what you asked for</html>", content_type="text/html")
        answer = self._new(path, dict(request.query)) if self._is_new else self._old(path, dict(request.query))
        return web.Response(status=404, text="No such path") if answer is None else answer

    async def _log_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        if self._users is None or self._users.get(str(form["username"])) != form["password"]:
            self.refused_logins += 1
            return web.Response(status=403, text="unknown user!")
        self.logins += 1
        self.token = secrets.token_hex(16)
        return web.json_response({"accessToken": self.token, "tokenTtl": self.token_life_s, "globalAdmin": True})

    def _old(self, path: str, query: dict[str, str]) -> web.Response | None:
        namespace = query.get("namespaceId") or query.get("tenant") or "public"
        group, _, name = query.get("serviceName", "").rpartition("@@")
        key = (namespace, group or query.get("groupName", "DEFAULT_GROUP"), name)
        if code := (name and self.registry.refusal(key[1], name)) or self.registry.refusal(
            query.get("group", ""), ""
        ):
            return web.Response(status=code, text="Param check invalid")
        match path:
            case "/v1/console/namespaces":
                names = [{"namespace": "" if ns == "public" else ns} for ns in sorted(self.registry.namespaces)]
                return web.json_response({"code": 200, "data": names})
            case "/v1/ns/catalog/services" if query["withInstances"] == "true":
                return web.json_response(self._page(namespace, query))
            case "/v1/ns/catalog/services":
                names = self._names(namespace)
                size = int(query["pageSize"])
                return web.json_response({"count": self._count(namespace, names), "serviceList": names[:size]})
            case "/v1/ns/catalog/instances":
                hosts = [h for h in self._all_hosts(key) if h["clusterName"] == query["clusterName"]]
                return web.json_response({"list": hosts, "count": len(hosts)})
            case "/v1/ns/service":
                return web.json_response({"protectThreshold": self._service(key).protect_threshold})
            case "/v1/ns/instance/list":
                return web.json_response(self.registry.service_info(key))
            case "/v1/cs/configs":
                items = self._configs(namespace, query["group"], "group")
                return web.json_response({"pageItems": items, "pagesAvailable": 1, "totalCount": len(items)})
            case _:
                return None

    def _new(self, path: str, query: dict[str, str]) -> web.Response | None:
        namespace = query.get("namespaceId", "public")
        key = (namespace, query.get("groupName", ""), query.get("serviceName", ""))
        if code := self.registry.refusal(*key[1:]):
            return web.Response(status=code, text="Param check invalid")
        match path:
            case "/v3/admin/core/namespace/list":
                data: Any = [{"namespace": ns} for ns in sorted(self.registry.namespaces)]
            case "/v3/admin/ns/service/list" if query["withInstances"] == "true":
                data = {"pageItems": self._page(namespace, query)}
            case "/v3/admin/ns/service/list":
                names = self._names(namespace)
                page, size = int(query["pageNo"]), min(500, int(query["pageSize"]))
                data = {
                    "totalCount": self._count(namespace, names),
                    "pagesAvailable": -(-len(names) // size),
                    "pageItems": names[(page - 1) * size : page * size],
                }
            case "/v3/admin/ns/service":
                data = {"protectThreshold": self._service(key).protect_threshold}
            case "/v3/admin/ns/instance/list":
                data = self._all_hosts(key)
            case "/v3/client/ns/instance/list":
                data = self.registry.service_info(key)["hosts"]
            case "/v3/admin/cs/config/list":
                items = self._configs(namespace, query["groupName"], "groupName")
                data = {"pageItems": [{**item, "content": None} for item in items], "pagesAvailable": 1}
            case _:
                return None
        return web.json_response(_data(data))

    def _count(self, namespace: str, names: list[dict[str, Any]]) -> int:
        return len(self.registry.of(namespace)) if self.count_all else len(names)

    def _names(self, namespace: str) -> list[dict[str, Any]]:
        entries = [
            {
                "name": key[2],
                "groupName": key[1],
                "ipCount": len(service.hosts),
                "healthyInstanceCount": sum(bool(host.get("healthy")) for host in service.hosts),
            }
            for key, service in self.registry.of(namespace)
        ]
        change = self.registry.faults.listing
        return change(entries) if change else entries

    def _page(self, namespace: str, query: dict[str, str]) -> list[dict[str, Any]]:
        number, size = int(query["pageNo"]), int(query["pageSize"])
        first = number if self.version.startswith("1") else number - 1
        entries = [
            {
                "serviceName": key[2],
                "groupName": key[1],
                "protectThreshold": service.protect_threshold,
                "clusterMap": _by_cluster(self._all_hosts(key)),
            }
            for key, service in self.registry.of(namespace)
        ]
        change = self.registry.faults.page
        return change(entries, first + 1) if change else entries[first * size : (first + 1) * size]

    def _service(self, key: Key) -> Service:
        return self.registry.services.get(key) or Service()

    def _all_hosts(self, key: Key) -> list[dict[str, Any]]:
        found = self.registry.services.get(key)
        return [] if found is None or self.registry.faults.empty_answers else found.hosts

    def _configs(self, namespace: str, group: str, field: str) -> list[dict[str, Any]]:
        return [
            {"dataId": key[2], field: key[1], "content": text}
            for key, text in self.registry.configs.items()
            if key[0] == namespace and key[1].startswith(group.rstrip("*"))
        ]


def _by_cluster(hosts: list[dict[str, Any]]) -> dict[str, Any]:
    clusters: dict[str, Any] = {}
    for host in hosts:
        shown = {key: value for key, value in host.items() if key not in {"clusterName", "ephemeral", "healthy"}}
        cluster = clusters.setdefault(host["clusterName"], {"hosts": []})
        cluster["hosts"].append({**shown, "valid": host["healthy"]})
    return clusters


def _data(value: Any) -> dict[str, Any]:
    return {"code": 0, "message": "success", "data": value}
