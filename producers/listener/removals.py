"""Services that are no longer listed: what it takes until they are gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from producers import metrics
from producers.errors import NacosError, NacosRefusedError, NacosUnavailableError
from runtime.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.listener.names import Follower
    from producers.listener.watched import Watched
    from producers.nacos.http.listing import Listing
    from producers.nacos.servers import Server
    from schemas.events import ServiceKey

_log = structlog.get_logger()

_MISSED_LISTINGS_UNTIL_CONFIRMED = 2
_DOUBTED_FROM = 10
"""A listing that lacks more services than this, and more than half of them, is not believed at once."""


class Removals:
    """Confirms removals, and nothing else waits for it: what listings add is followed before.

    A service is gone when two listings in a row lack it, another server than the one that listed lacks it too, and
    the service itself, asked for, has no instance. Where there are other servers and none answers, nothing is
    confirmed. A listing that lacks most of what is known counts only when it stays so for a grace period.
    Used on the event loop; stops by cancellation.
    """

    def __init__(self, watched: Watched, follower: Follower) -> None:
        self.doubt = ""
        self._watched = watched
        self._follower = follower
        self._missed: dict[ServiceKey, int] = {}
        self._listed_by: Server | None = None
        self._doubted_since: float | None = None
        self._backoff = _new_backoff()
        self._woken = asyncio.Event()

    @property
    def needs_listing(self) -> bool:
        """Whether another listing would tell more."""
        return self.is_doubting or any(times < _MISSED_LISTINGS_UNTIL_CONFIRMED for times in self._missed.values())

    @property
    def waiting(self) -> int:
        """How many services are missing, and not confirmed to be gone."""
        return len(self._missed)

    @property
    def is_doubting(self) -> bool:
        """Whether the last listing lacked most of what is known."""
        return self._doubted_since is not None

    def suspect(self, keys: Iterable[ServiceKey]) -> None:
        """These are said to have vanished: the next listings decide."""
        for key in keys:
            self._missed.setdefault(key, 0)

    def listed(self, listing: Listing) -> None:
        """Notes which services a listing lacks."""
        known = self._follower.followed
        missing = known - listing.services.keys()
        self._listed_by = listing.server
        if self._is_doubted(missing, len(known)):
            return
        self._missed = {
            key: self._missed.get(key, 0) + 1 for key in missing if self._follower.removals_believed(key)
        }
        if any(times >= _MISSED_LISTINGS_UNTIL_CONFIRMED for times in self._missed.values()):
            self._woken.set()

    async def run(self) -> None:
        """Confirms what is due, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            begun = time.monotonic()
            try:
                is_answered = await self._confirm()
            except NacosError as error:
                _log.warning("removals_not_confirmed", namespace=self._watched.namespace, error=str(error))
                is_answered = False
            if is_answered:
                self._backoff = _new_backoff()
            else:  # later and later while nobody answers
                await asyncio.sleep(self._backoff.pause_s(time.monotonic() - begun))
                self._woken.set()

    async def _confirm(self) -> bool:
        """Removes what is gone; whether there was an answer for all that was due."""
        due = {key for key, times in self._missed.items() if times >= _MISSED_LISTINGS_UNTIL_CONFIRMED}
        if not due:
            return True
        absent = await self._absent_elsewhere(due)
        if absent is None:
            return False
        for key in due - absent:
            self._missed.pop(key, None)
        is_answered, unavailable = due == absent, None
        for key in absent:
            try:
                is_empty = await self._is_empty(key)
            except NacosUnavailableError as error:  # those behind it are asked for all the same
                unavailable, is_empty = error, False
            if not is_empty:
                is_answered = False
            elif self._missed.pop(key, None) is not None:  # no listing showed it meanwhile
                self._follower.drop(key)
                self._watched.forget(key)
        if unavailable is not None:
            raise unavailable
        return is_answered

    async def _absent_elsewhere(self, keys: set[ServiceKey]) -> set[ServiceKey] | None:
        """Those that another server lacks, too; all of them where there is no other; None where none answers."""
        watched = self._watched
        others = [server for server in await watched.cluster.servers.all() if server != self._listed_by]
        if not others:
            return keys
        for server in others:
            try:
                api = await watched.cluster.api()
                listing = await api.list_services(watched.namespace, server=server)
            except NacosError as error:
                _log.info("no_second_opinion", namespace=watched.namespace, server=server.url, error=str(error))
                continue
            return keys - listing.services.keys()
        return None

    async def _is_empty(self, key: ServiceKey) -> bool:
        """Whether the service, asked for, has no instance; one that the server never tells of counts as empty."""
        try:
            return await self._follower.ask(key) == ()
        except NacosUnavailableError:
            raise
        except NacosRefusedError as error:
            return error.is_lasting
        except Exception:  # noqa: BLE001 - it costs this service
            _log.exception("removal_not_confirmed", namespace=self._watched.namespace, service=key)
            return False

    def _is_doubted(self, missing: frozenset[ServiceKey], known: int) -> bool:
        if len(missing) <= max(_DOUBTED_FROM, known // 2):
            self._doubted_since, self.doubt = None, ""
            return False
        now = time.monotonic()
        if self._doubted_since is None:
            self._doubted_since = now
        metrics.LISTINGS_DOUBTED.labels(*self._watched.labels).inc()
        self._missed = dict.fromkeys(missing, 1)
        self.doubt = f"a listing lacks {len(missing)} of {known} services: not believed yet"
        _log.warning("listing doubted", namespace=self._watched.namespace, lacks=len(missing), known=known)
        return now - self._doubted_since < self._watched.settings.removal_grace_s


def _new_backoff() -> Backoff:
    return Backoff(first_s=1.0, max_s=30.0)
