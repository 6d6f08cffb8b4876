"""Who we are to a Nacos cluster: a login, its token, and the token's renewal."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

import structlog

from producers.errors import NacosError, NacosLoginError, NacosUnavailableError
from runtime.backoff import Backoff
from runtime.errors import SettingsError
from runtime.settings import read_secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from producers.settings import NacosSettings

_log = structlog.get_logger()

_RENEW_AT = 0.8
"""The share of a token's life after which it is renewed."""
_LIFE_S = 18_000.0
_SHORTEST_LIFE_S, _LONGEST_LIFE_S = 1.0, 30 * 24 * 3600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class Credentials:
    """A token that is valid, shared by all who ask; `log_in` exchanges a form for a token and its life in s.

    A login that failed is remembered: until its pause is over every caller gets the same error, nothing is sent.
    The pause doubles from 1 to 60 s; another password ends it. A token that is refused soon after it was given
    leads to no other login until that pause is over, either: then the user lacks a right.
    Nothing of it is ever logged. The password's file is read at each attempt, so that it may be changed.
    """

    def __init__(
        self,
        settings: NacosSettings,
        log_in: Callable[[dict[str, str]], Awaitable[tuple[str, float]]],
    ) -> None:
        self._settings = settings
        self._log_in = log_in
        self._token: str | None = None
        self._renew_at = 0.0
        self._lock = asyncio.Lock()
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._logged_in_at = float("-inf")
        self._next_login_at = float("-inf")
        self._failure: NacosError | None = None
        self._failed_password = ""

    @property
    def username(self) -> str | None:
        """The user's name; None when no login is set."""
        return self._settings.username

    @property
    def state(self) -> str:
        """How the login stands, for operators."""
        if self._settings.username is None:
            return "no login is set"
        if self._failure is not None:
            pause_s = max(0.0, self._next_login_at - time.monotonic())
            return f"refused, next attempt in {pause_s:.0f} s: {self._failure}"
        return "not logged in yet" if self._token is None else f"logged in as {self._settings.username}"

    async def token(self) -> str | None:
        """A valid token, or None where no user name is set.

        Raises:
            NacosLoginError: the login was refused.
            NacosUnavailableError: no server could be asked.
        """
        if self._settings.username is None:
            return None
        if self._token is None or time.monotonic() >= self._renew_at:
            await self.renew(self._token)
        return self._token

    async def renew(self, refused: str | None) -> str | None:
        """A token other than the refused one: of many whose token failed, the first logs in.

        The refused one itself, where it is so new that it can't have ended. Raises as `token`.
        """
        username = self._settings.username
        if username is None:
            return None
        async with self._lock:
            if self._token is not None and self._token != refused:
                return self._token
            password = self._password()
            if self._failure is not None and password == self._failed_password:
                self._wait_out(self._failure)
            is_new = time.monotonic() < min(self._next_login_at, self._renew_at)
            if self._token is None or not is_new:
                await self._attempt(username, password)
        return self._token

    async def _attempt(self, username: str, password: str) -> None:
        try:
            token, life_s = await self._log_in({"username": username, "password": password})
        except NacosError as error:
            pause_s = self._backoff.pause_s(0.0) if isinstance(error, NacosLoginError) else _FIRST_PAUSE_S
            self._failure, self._failed_password = error, password
            self._next_login_at = time.monotonic() + pause_s
            _log.warning("nacos_login_failed", error=str(error), retry_in_s=round(pause_s, 1))
            raise
        now = time.monotonic()
        self._next_login_at = now + self._backoff.pause_s(now - self._logged_in_at)
        self._token, self._failure, self._failed_password, self._logged_in_at = token, None, "", now
        self._renew_at = now + _life(life_s) * _RENEW_AT

    def _wait_out(self, failure: NacosError) -> None:
        """Raises what the last attempt raised, until it is time for another one."""
        if time.monotonic() >= self._next_login_at:
            return
        if isinstance(failure, NacosLoginError):
            raise NacosLoginError(failure.code, failure.username) from failure
        raise NacosUnavailableError(failure.cause, str(failure)) from failure

    def _password(self) -> str:
        if self._settings.password_file:
            try:
                return read_secret(self._settings.password_file, "nacos.password_file")
            except SettingsError as error:  # it may be written anew at this moment
                raise NacosUnavailableError("password_file", str(error)) from error
        return self._settings.password.get_secret_value() if self._settings.password else ""


def _life(seconds: float) -> float:
    """A token's life as a server told it, within sense."""
    if not math.isfinite(seconds):
        return _LIFE_S
    return min(max(seconds, _SHORTEST_LIFE_S), _LONGEST_LIFE_S)
