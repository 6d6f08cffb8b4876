"""HTTP to a Nacos cluster: which server, with which token, and what its answers mean."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import httpx
import orjson

from producers.errors import (
    NacosForbiddenError,
    NacosGarbageError,
    NacosLoginError,
    NacosRefusedError,
    NacosUnavailableError,
)
from producers.nacos.credentials import Credentials
from producers.nacos.servers import ServerList
from runtime.errors import SettingsError

if TYPE_CHECKING:
    from producers.nacos.servers import Server
    from producers.settings import NacosSettings, NacosTlsSettings

_TIMEOUT = httpx.Timeout(15.0, connect=3.0)
_LOGIN_PATHS = ("/v1/auth/login", "/v3/auth/user/login")
_UNKNOWN_PATH = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE, httpx.codes.METHOD_NOT_ALLOWED})
_REFUSED = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})
_BROKEN_STATUS = "illegal status line"
"""What Nacos 2.3.2 answers to a wrong password is `HTTP/1.1 0`."""
_UNAVAILABLE = frozenset({httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT})
"""A server that is still starting, or a proxy that can't reach one."""
_MAX_ANSWER_BYTES = 256 * 1024 * 1024
_ANSWER_S = 90.0
"""A whole answer takes no longer, however slowly it drips."""
_KEPT_HEADERS = frozenset({"content-type"})
_MAX_TOKEN_LENGTH = 16 * 1024


class Answer(NamedTuple):
    """An answer's JSON, and the server that gave it."""

    json: Any
    server: Server


class NacosHttp:
    """Asks the cluster's servers in turn until one answers; where one fails in itself (5xx), the next is asked.

    Every call raises `NacosUnavailableError` when none does, `NacosForbiddenError` when none lets us in even
    with a new token, `NacosRefusedError` for other errors, `NacosGarbageError` when the answer is no JSON.
    Passwords and tokens are never logged and never part of a URL.
    """

    def __init__(self, settings: NacosSettings) -> None:
        self.servers = ServerList(settings)
        self.credentials = Credentials(settings, self._log_in)
        self._settings = settings
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, verify=_tls_context(settings.tls), follow_redirects=False
        )
        self._answered_last: Server | None = None

    async def __aenter__(self) -> Self:
        """Opens the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, path: str, params: dict[str, Any], *, server: Server | None = None) -> Any:
        """The JSON that the path answers; asks only `server`, if given."""
        return (await self.get_answer(path, params, server=server)).json

    async def get_answer(self, path: str, params: dict[str, Any], *, server: Server | None = None) -> Answer:
        """As `get`, with the server that answered. A 401 or 403 leads to one new login."""
        token = await self.credentials.token()
        response, answered = await self._send("GET", path, server=server, params=params, headers=_bearer(token))
        if response.status_code in _REFUSED and token:
            renewed = await self.credentials.renew(token)
            if renewed != token:
                response, answered = await self._send(
                    "GET", path, server=server, params=params, headers=_bearer(renewed)
                )
        if response.status_code in _REFUSED:
            raise NacosForbiddenError(f"GET {path}", response.status_code, self.credentials.username)
        if response.is_error:
            raise NacosRefusedError(f"GET {path}", response.status_code, response.text)
        try:
            return Answer(orjson.loads(response.content), answered)
        except ValueError as error:
            raise NacosGarbageError(f"GET {path} is not JSON: {response.text[:200]!r}") from error

    async def probe(self, path: str) -> httpx.Response:
        """The answer to an anonymous GET, whatever its status."""
        response, _ = await self._send("GET", path)
        return response

    async def _log_in(self, form: dict[str, str]) -> tuple[str, float]:
        username = form["username"]
        for path in _LOGIN_PATHS:
            try:
                response, _ = await self._send("POST", path, data=form)
            except NacosUnavailableError as error:
                if _BROKEN_STATUS in str(error):
                    raise NacosLoginError(0, username) from error
                raise
            if response.status_code in _UNKNOWN_PATH:
                continue  # the other generation's server
            if response.is_error:
                raise NacosLoginError(response.status_code, username)
            return _token_in(response)
        raise NacosRefusedError("login", httpx.codes.NOT_FOUND, "the server knows no way to log in")

    async def _send(
        self,
        method: str,
        path: str,
        *,
        server: Server | None = None,
        headers: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> tuple[httpx.Response, Server]:
        servers = [server] if server else await self.servers.all()
        if self._answered_last in servers:
            first = servers.index(self._answered_last)
            servers = servers[first:] + servers[:first]
        faults = []
        failed: tuple[httpx.Response, Server] | None = None
        for candidate in servers:
            name = self._settings.tls.server_name or candidate.name
            try:
                async with asyncio.timeout(_ANSWER_S):
                    response = await self._exchange(
                        method,
                        candidate.url + self._settings.context_path + path,
                        headers={**(headers or {}), "Host": candidate.host},
                        extensions={"sni_hostname": name} if candidate.scheme == "https" else {},
                        **kwargs,
                    )
            except TimeoutError:
                faults.append(f"{candidate.url}: no whole answer within {_ANSWER_S:.0f} s")
                continue
            except httpx.HTTPError as error:
                faults.append(f"{candidate.url}: {type(error).__name__}{_reason(error)}")
                continue
            if response is None:
                faults.append(f"{candidate.url}: an answer of more than {_MAX_ANSWER_BYTES} bytes")
                continue
            if response.status_code in _UNAVAILABLE:
                faults.append(f"{candidate.url}: still starting or not reached ({response.status_code})")
                continue
            if response.is_server_error:
                failed = failed or (response, candidate)
                continue
            if server is None:
                self._answered_last = candidate
            return response, candidate
        if failed is not None:
            return failed
        raise NacosUnavailableError("http_failed", "; ".join(faults))

    async def _exchange(self, method: str, url: str, **kwargs: Any) -> httpx.Response | None:
        """The answer, read whole; None for one that is too large, which is not read to its end."""
        async with self._client.stream(method, url, **kwargs) as response:
            parts, size = [], 0
            async for part in response.aiter_bytes():
                size += len(part)
                if size > _MAX_ANSWER_BYTES:
                    return None
                parts.append(part)
            headers = {name: value for name, value in response.headers.items() if name in _KEPT_HEADERS}
            return httpx.Response(
                response.status_code, headers=headers, content=b"".join(parts), request=response.request
            )


def _token_in(response: httpx.Response) -> tuple[str, float]:
    """The token in the answer to a login, and its life in s."""
    try:
        answer = orjson.loads(response.content)
        token, life_s = str(answer["accessToken"]), float(answer.get("tokenTtl", 18000))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise NacosGarbageError("the answer to a login holds no accessToken") from error
    if not token or len(token) > _MAX_TOKEN_LENGTH or not (token.isascii() and token.isprintable()):
        raise NacosGarbageError("the answer to a login holds an accessToken that is none")
    return token, life_s


def _bearer(token: str | None) -> dict[str, str]:
    # 1.x and 2.x read both; a header named accessToken is what 2.2 and later document.
    return {"Authorization": f"Bearer {token}", "accessToken": token} if token else {}


def _reason(error: httpx.HTTPError) -> str:
    """The texts that tell an operator more than the error's name: of TLS, and of answers that are no HTTP."""
    telling = ("certificate", "ssl", _BROKEN_STATUS)
    return f" ({error})" if any(word in str(error).lower() for word in telling) else ""


def _tls_context(tls: NacosTlsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        if tls.certificate_file:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"nacos.tls: cannot use the certificates: {error}") from error
    return context
