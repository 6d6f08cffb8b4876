"""HTTP to a Nacos cluster: which server, with which token, and what its answers mean."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Self

import httpx
import orjson

from producers.errors import (
    NacosForbiddenError,
    NacosGarbageError,
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
_MAX_ANSWER_BYTES = 256 * 1024 * 1024


class NacosHttp:
    """Asks the cluster's servers in turn until one answers.

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
        response = await self.get_response(path, params, server=server)
        try:
            return orjson.loads(response.content)
        except ValueError as error:
            raise NacosGarbageError(f"GET {path} is not JSON: {response.text[:200]!r}") from error

    async def get_response(
        self, path: str, params: dict[str, Any], *, server: Server | None = None
    ) -> httpx.Response:
        """The whole successful answer; a 401 or 403 leads to one new login."""
        token = await self.credentials.token()
        response = await self._send("GET", path, server=server, params=params, headers=_bearer(token))
        if response.status_code in _REFUSED and token:
            token = await self.credentials.renew(token)
            response = await self._send("GET", path, server=server, params=params, headers=_bearer(token))
        if response.status_code in _REFUSED:
            raise NacosForbiddenError(f"GET {path}", response.status_code, self.credentials.username)
        if response.is_error:
            raise NacosRefusedError(f"GET {path}", response.status_code, response.text)
        return response

    async def probe(self, path: str) -> httpx.Response:
        """The answer to an anonymous GET, whatever its status."""
        return await self._send("GET", path)

    async def _log_in(self, form: dict[str, str]) -> tuple[str, float]:
        for path in _LOGIN_PATHS:
            try:
                response = await self._send("POST", path, data=form)
            except NacosUnavailableError as error:
                if _BROKEN_STATUS in str(error):
                    raise NacosForbiddenError("login", 0, form["username"]) from error
                raise
            if response.status_code in _UNKNOWN_PATH:
                continue  # the other generation's server
            if response.is_error:
                raise NacosForbiddenError("login", response.status_code, form["username"])
            try:
                answer = orjson.loads(response.content)
                return str(answer["accessToken"]), float(answer.get("tokenTtl", 18000))
            except (ValueError, KeyError, TypeError) as error:
                raise NacosGarbageError("the answer to a login holds no accessToken") from error
        raise NacosRefusedError("login", httpx.codes.NOT_FOUND, "the server knows no way to log in")

    async def _send(
        self, method: str, path: str, *, server: Server | None = None, **kwargs: Any
    ) -> httpx.Response:
        servers = [server] if server else await self.servers.all()
        if self._answered_last in servers:
            first = servers.index(self._answered_last)
            servers = servers[first:] + servers[:first]
        faults = []
        for candidate in servers:
            name = self._settings.tls.server_name or candidate.name
            try:
                response = await self._client.request(
                    method,
                    candidate.url + self._settings.context_path + path,
                    extensions={"sni_hostname": name} if candidate.scheme == "https" else {},
                    **kwargs,
                )
            except httpx.HTTPError as error:
                faults.append(f"{candidate.url}: {type(error).__name__}{_reason(error)}")
                continue
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                faults.append(f"{candidate.url}: still starting (503)")
                continue
            if len(response.content) > _MAX_ANSWER_BYTES:
                faults.append(f"{candidate.url}: an answer of {len(response.content)} bytes")
                continue
            if server is None:
                self._answered_last = candidate
            return response
        raise NacosUnavailableError("http_failed", "; ".join(faults))


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
