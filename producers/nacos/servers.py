"""The servers of a Nacos cluster: a list of URLs, or a name that resolves to several addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from producers.errors import NacosUnavailableError

if TYPE_CHECKING:
    from producers.settings import NacosSettings

_RESOLVED_FOR_S = 10.0
_DEFAULT_PORT = 8848
_PORTS_OF_SCHEMES = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server: its address, and its name in the settings, which certificates and ingresses know it by."""

    scheme: str
    address: str
    port: int
    name: str

    @property
    def url(self) -> str:
        """The start of its HTTP URLs."""
        return f"{self.scheme}://{_bracketed(self.address)}:{self.port}"

    @property
    def host(self) -> str:
        """The Host header of HTTP requests: an ingress in front of several servers knows them by name."""
        name = _bracketed(self.name)
        return name if self.port == _PORTS_OF_SCHEMES[self.scheme] else f"{name}:{self.port}"

    def grpc_address(self, offset: int) -> str:
        """The address and port of its gRPC."""
        return f"{_bracketed(self.address)}:{self.port + offset}"

    def grpc_authority(self, offset: int) -> str:
        """The authority of its gRPC."""
        return f"{_bracketed(self.name)}:{self.port + offset}"


class ServerList:
    """The cluster's servers in turn; names are resolved anew every 10 s."""

    def __init__(self, settings: NacosSettings) -> None:
        self._servers = [_parse(url) for url in settings.servers]
        self._resolved: list[Server] = []
        self._resolved_at = float("-inf")
        self._turn = 0

    async def all(self) -> list[Server]:
        """Every server, in the order of the settings and of their addresses.

        Raises:
            NacosUnavailableError: no name resolves.
        """
        if time.monotonic() - self._resolved_at > _RESOLVED_FOR_S:
            found = [server for named in self._servers for server in await _resolve(named)]
            if found:
                self._resolved, self._resolved_at = found, time.monotonic()
        if not self._resolved:
            names = ", ".join(server.name for server in self._servers)
            raise NacosUnavailableError("not_resolved", f"no address for {names}; see nacos.servers")
        return list(self._resolved)

    async def following(self, former: Server | None) -> Server:
        """The server after `former`; each asker without one begins at another, so that load spreads."""
        servers = await self.all()
        if former in servers:
            return servers[(servers.index(former) + 1) % len(servers)]
        self._turn += 1
        return servers[(self._turn - 1) % len(servers)]

    async def at(self, address: str, port: int) -> Server:
        """The server of that address, which another one named: one of ours, or one unknown to the settings."""
        servers = await self.all()
        for server in servers:
            if (server.address, server.port) == (address, port):
                return server
        return replace(servers[0], address=address, port=port)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parse(url: str) -> Server:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return Server(scheme=parts.scheme, address=host, port=parts.port or _DEFAULT_PORT, name=host)


async def _resolve(server: Server) -> list[Server]:
    """The server itself when it is an address or a name of one; else one for each address."""
    try:
        ipaddress.ip_address(server.address)
    except ValueError:
        pass
    else:
        return [server]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            server.address, server.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError):  # the latter for what can't be a host name
        return []
    addresses = sorted({str(entry[4][0]) for entry in found})
    return [replace(server, address=address) for address in addresses]
