"""Who we are to a Nacos cluster: a login, its token, and the token's renewal."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from runtime.settings import read_secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from producers.settings import NacosSettings

_RENEW_AT = 0.8
"""The share of a token's life after which it is renewed."""


class Credentials:
    """A token that is valid, shared by all who ask; `log_in` exchanges a form for a token and its life in s.

    Nothing of it is ever logged. The password's file is read at each login, so that it may be changed.
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

    @property
    def username(self) -> str | None:
        """Who we are; None when no login is set."""
        return self._settings.username

    async def token(self) -> str | None:
        """A valid token, or None where no user name is set."""
        if self._settings.username is None:
            return None
        if self._token is None or time.monotonic() >= self._renew_at:
            await self.renew(self._token)
        return self._token

    async def renew(self, refused: str | None) -> str | None:
        """A token other than the refused one: of many whom the same one failed, the first logs in."""
        if self._settings.username is None:
            return None
        async with self._lock:
            if self._token is None or self._token == refused:
                form = {"username": self._settings.username, "password": self._password()}
                self._token, life_s = await self._log_in(form)
                self._renew_at = time.monotonic() + life_s * _RENEW_AT
        return self._token

    def _password(self) -> str:
        if self._settings.password_file:
            return read_secret(self._settings.password_file, "nacos.password_file")
        return self._settings.password.get_secret_value() if self._settings.password else ""
