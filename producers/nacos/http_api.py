"""Nacos's HTTP API: login, namespaces, the list of services. For 2.x servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx

from producers.errors import NacosGarbageError, NacosRefusedError, NacosUnavailableError
from runtime.settings import read_secret
from schemas.events import Namespace, ServiceKey

if TYPE_CHECKING:
    from producers.settings import NacosSettings

PUBLIC = Namespace("public")
ALL_ON_ONE_PAGE = 1_000_000
"""Pages are cut from unordered sets, so two of them may skip or repeat: one page holds all."""
_TIMEOUT_S = 15.0
_RENEW_AT = 0.8
"""The share of a token's life after which it is renewed."""


class CatalogPage(NamedTuple):
    """What Nacos lists of a namespace's services: how many there are, and those of the page."""

    total: int
    services: frozenset[ServiceKey]


class NacosHttp:
    """A client of the cluster's HTTP API; asks the servers in turn until one answers.

    Every call raises `NacosUnavailableError` when no server answers and `NacosRefusedError` when the answer
    is an error. Passwords and tokens are never logged and never part of a URL of ours.
    """

    def __init__(self, settings: NacosSettings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S)
        self._token: str | None = None
        self._renew_at = 0.0

    async def __aenter__(self) -> Self:
        """Opens the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def access_token(self) -> str | None:
        """A valid token, or None where no user name is set."""
        if self._settings.username is None:
            return None
        if self._token is None or time.monotonic() >= self._renew_at:
            await self._login()
        return self._token

    async def namespaces(self) -> frozenset[Namespace]:
        """The ids of all namespaces; the public one is `public`."""
        answer = await self._get("/v1/console/namespaces", {})
        entries = answer.get("data")
        if not isinstance(entries, list):
            raise NacosGarbageError(f"namespaces without data: {str(answer)[:200]}")
        return frozenset(
            Namespace(str(entry.get("namespace") or PUBLIC)) for entry in entries if isinstance(entry, dict)
        )

    async def count_services(self, namespace: Namespace) -> int:
        """How many services the namespace has: a cheap look for change."""
        return (await self._catalog(namespace, page_size=1)).total

    async def list_services(self, namespace: Namespace) -> CatalogPage:
        """The services of all groups, empty ones included."""
        return await self._catalog(namespace, page_size=ALL_ON_ONE_PAGE)

    async def _catalog(self, namespace: Namespace, *, page_size: int) -> CatalogPage:
        answer = await self._get(
            "/v1/ns/catalog/services",
            {
                "withInstances": "false",
                "pageNo": 1,
                "pageSize": page_size,
                "namespaceId": "" if namespace == PUBLIC else namespace,
            },
        )
        entries = answer.get("serviceList")
        count = answer.get("count")
        if not isinstance(entries, list) or not isinstance(count, int):
            raise NacosGarbageError(f"a catalog without services: {str(answer)[:200]}")
        return CatalogPage(
            total=count,
            services=frozenset(
                ServiceKey(str(entry["groupName"]), str(entry["name"]))
                for entry in entries
                if isinstance(entry, dict) and entry.get("name") and entry.get("groupName")
            ),
        )

    async def _get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        token = await self.access_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = await self._send("GET", path, params=params, headers=headers)
        if response.status_code == httpx.codes.FORBIDDEN and token:
            await self._login()
            headers = {"Authorization": f"Bearer {self._token}"}
            response = await self._send("GET", path, params=params, headers=headers)
        if response.is_error:
            raise NacosRefusedError(f"GET {path}", response.status_code, response.text)
        try:
            answer = response.json()
        except ValueError as error:
            raise NacosGarbageError(f"GET {path} is not JSON: {response.text[:200]}") from error
        if not isinstance(answer, dict):
            raise NacosGarbageError(f"GET {path} is a {type(answer).__name__}")
        return answer

    async def _login(self) -> None:
        password = self._settings.password.get_secret_value() if self._settings.password else ""
        if self._settings.password_file:
            password = read_secret(self._settings.password_file, "nacos.password_file")
        form = {"username": self._settings.username or "", "password": password}
        response = await self._send("POST", "/v1/auth/login", data=form)
        if response.is_error:
            raise NacosRefusedError("login", response.status_code, "check nacos.username and its password")
        answer = response.json()
        self._token = str(answer["accessToken"])
        self._renew_at = time.monotonic() + float(answer.get("tokenTtl", 18000)) * _RENEW_AT

    async def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        faults = []
        for server in self._settings.servers:
            url = server.rstrip("/") + self._settings.context_path + path
            try:
                return await self._client.request(method, url, **kwargs)
            except httpx.HTTPError as error:
                faults.append(f"{server}: {type(error).__name__}")
        raise NacosUnavailableError("http_failed", "; ".join(faults))
