"""A Nacos cluster as a listener meets it: its version and dialect, its HTTP interface, new connections to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import grpc
import orjson
import structlog

from producers.errors import NacosRefusedError, NacosUnavailableError
from producers.nacos.connection import Endpoint, Module, NacosConnection
from producers.nacos.http.client import NacosHttp
from producers.nacos.http.listing import NacosApi, public_as
from producers.nacos.http.v1 import V1Api
from producers.nacos.http.v3 import V3Api

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server, ServerList
    from producers.settings import Mode, NacosSettings
    from schemas.events import Namespace

_log = structlog.get_logger()

_OLD_STATE = "/v1/console/server/state"
_NEW_STATE = "/v3/admin/core/state"
_WANTS_A_LOGIN = frozenset({401, 403})


class NacosCluster:
    """Detects what the servers speak, when it is first needed, and again after `forget_version`."""

    def __init__(self, settings: NacosSettings) -> None:
        self._settings = settings
        self._http = NacosHttp(settings)
        self._api: NacosApi | None = None
        self._detecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Opens the HTTP client."""
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        await self._http.__aexit__()

    @property
    def servers(self) -> ServerList:
        """The servers, in turn."""
        return self._http.servers

    @property
    def version(self) -> str:
        """What the servers say that they are, and how they are spoken to."""
        return f"{self._api.version}, spoken to as {self._api.mode}" if self._api else "not asked yet"

    async def api(self) -> NacosApi:
        """The HTTP interface in the servers' dialect; raises as `NacosHttp` does."""
        if self._api is not None:
            return self._api
        async with self._detecting:  # thousands of namespaces may ask at once
            if self._api is None:
                self._api = await self._detect()
                _log.info(
                    "nacos", version=self._api.version, mode=self._api.mode, forced=self._settings.mode != "auto"
                )
            return self._api

    @property
    def login(self) -> str:
        """How the login stands, for operators."""
        return self._http.credentials.state

    def forget_version(self) -> None:
        """The servers may have been replaced: asks again."""
        self._api = None

    async def connect(
        self, server: Server, namespace: Namespace, on_push: Callable[[Envelope], None], module: Module = "naming"
    ) -> NacosConnection:
        """A connection that is set up; raises as `NacosConnection.open`."""
        settings = self._settings
        with_tls = server.scheme == "https" if settings.grpc_tls is None else settings.grpc_tls
        try:
            credentials = self._channel_credentials() if with_tls else None
        except OSError as error:  # certificates may be written anew at this moment
            raise NacosUnavailableError("tls_files", f"nacos.tls: {error.filename}: {error.strerror}") from error
        endpoint = Endpoint(
            server.grpc_address(settings.grpc_port_offset),
            credentials,
            settings.tls.server_name or server.name,
            server.grpc_authority(settings.grpc_port_offset),
        )
        connection = NacosConnection(
            endpoint,
            namespace=public_as(namespace, "" if module == "config" and not self._is_new else "public"),
            on_push=on_push,
            module=module,
            credentials=self._http.credentials,
        )
        return await connection.open()

    @property
    def _is_new(self) -> bool:
        return self._api is not None and self._api.mode == "3.x"

    async def _detect(self) -> NacosApi:
        new = await self._http.probe(_NEW_STATE)
        if new.is_success:
            found: tuple[Mode, str] = ("3.x", _version_in(new) or "3.x")
        elif new.status_code in _WANTS_A_LOGIN and (await self._http.probe(_OLD_STATE)).is_error:
            found = ("3.x", "3.x, which wants a login to say more")
        else:
            old = await self._http.probe(_OLD_STATE)
            version = _version_in(old) if old.is_success else None
            if version is None and self._settings.mode == "auto":
                raise NacosRefusedError(
                    f"GET {_OLD_STATE}",
                    old.status_code,
                    "neither this nor the path of 3.x tells a version: see nacos.servers and nacos.context_path, "
                    "or set nacos.mode",
                )
            found = ("1.x" if (version or "").startswith(("0.", "1.")) else "2.x", version or "unknown")
        detected, version = found
        mode = detected if self._settings.mode == "auto" else self._settings.mode
        if mode == "3.x":
            return V3Api(self._http, version=version)
        return V1Api(self._http, mode=mode, version=version)

    def _channel_credentials(self) -> grpc.ChannelCredentials:
        tls = self._settings.tls
        return grpc.ssl_channel_credentials(
            root_certificates=_content(tls.ca_file),
            private_key=_content(tls.key_file or tls.certificate_file) if tls.certificate_file else None,
            certificate_chain=_content(tls.certificate_file),
        )


def _content(path: Path | None) -> bytes | None:
    return path.read_bytes() if path else None


def _version_in(response: httpx.Response) -> str | None:
    try:
        answer: Any = orjson.loads(response.content)
    except ValueError:
        return None
    if isinstance(answer, dict) and isinstance(answer.get("data"), dict):
        answer = answer["data"]
    version = answer.get("version") if isinstance(answer, dict) else None
    return version if isinstance(version, str) else None
