"""Which services a namespace has: by their count, by their names, and by push on 3.x."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import structlog

from producers.errors import NacosError, NacosGarbageError, NacosRefusedError
from producers.listener.census import Census
from producers.nacos.fuzzy_watch import OVER_LIMIT, REQUEST, RESEND_S, FuzzyWatch
from schemas.events import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from producers.listener.removals import Removals
    from producers.listener.watched import Watched
    from producers.nacos.connection import NacosConnection
    from producers.nacos.http.listing import Counts, NacosApi
    from producers.nacos.payload import Envelope
    from producers.nacos.servers import Server
    from schemas.events import Instance, ServiceKey

_log = structlog.get_logger()

_LISTED = "services are listed"
_WOKEN_PAUSE_S = 0.1
_MOST_LOOKS_AT_FIRST = 30
_OTHER_DIALECT = frozenset({404, 405, 410})


class Follower(Protocol):
    """Follows the services of a namespace."""

    @property
    def followed(self) -> frozenset[ServiceKey]:
        """Every service that it follows, those that are set aside included."""

    def follow(self, keys: Iterable[ServiceKey]) -> None:
        """Follows these too, as soon as it can."""

    async def ask(self, key: ServiceKey) -> tuple[Instance, ...] | None:
        """Looks at a service now; its instances, None when nobody can tell. Raises NacosError."""

    def drop(self, key: ServiceKey) -> None:
        """Follows it no longer."""

    def listed(self, counts: Mapping[ServiceKey, Counts]) -> None:
        """A listing said so."""

    def listing_failed(self, reason: str) -> None:
        """A listing got no usable answer."""

    def removals_believed(self, key: ServiceKey) -> bool:
        """Whether a service that is not listed may be gone."""

    def server_of(self, key: ServiceKey) -> Server | None:
        """The server that tells of the service; None when any does."""

    def names_connection(self) -> NacosConnection | None:
        """The connection over which names may be pushed, if any."""


class ServiceNames:
    """Looks for new and vanished services, again and again.

    On 2.x and 3.x the services are counted at each look, and listed when the count differs from what is known;
    names that 3.x pushes come sooner, and are never taken for all. On 1.x each look lists. `found` is set once all
    that is counted is known by name, or when several listings in a row would not show it. `dialect_changed` is set
    when the servers turn out to push where they did not before, or the other way round. Used on the event loop;
    stops by cancellation.
    """

    def __init__(self, watched: Watched, follower: Follower, removals: Removals, *, pushes: bool) -> None:
        self.found = asyncio.Event()
        self.dialect_changed = asyncio.Event()
        self._pushes = pushes
        self._interval_s = watched.settings.listing_interval_s
        self._watched = watched
        self._follower = follower
        self._removals = removals
        self._census = Census()
        self._failure = "not listed yet"
        self._looks = 0
        self._listed_at = float("-inf")
        self._fuzzy: FuzzyWatch | None = None
        self._fuzzy_connection: NacosConnection | None = None
        self._fuzzy_refused: NacosConnection | None = None
        self._fuzzy_sent_at = 0.0
        self._woken = asyncio.Event()

    @property
    def link(self) -> tuple[Link, str]:
        """Whether services are found, and what is wrong if they are not."""
        if self._removals.doubt:
            return Link.BLIND, self._removals.doubt
        if self._failure:
            return (Link.DEGRADED if self._census.is_listed else Link.BLIND), self._failure
        if self._census.left_to_find:
            return Link.DEGRADED, f"{self._census.left_to_find} services are counted and not found yet"
        return Link.LIVE, _LISTED

    @property
    def left_to_find(self) -> int:
        """How many services are counted and not known by name."""
        return self._census.left_to_find

    @property
    def left_to_confirm(self) -> int:
        """How many services are not listed any more, and not confirmed to be gone."""
        return self._removals.waiting

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                await self._look()
            except NacosError as error:
                self._fail(error)
                await asyncio.sleep(self._watched.settings.listing_interval_s)
            else:
                self._watched.heard()
                self._failure = ""
                await self._pause()

    def receive(self, message: Envelope) -> None:
        """A push that may be about names."""
        changes = self._fuzzy.receive(message) if self._fuzzy is not None else None
        if changes is None:
            return
        self._census.push(changes.added, changes.deleted)
        self._removals.suspect(changes.deleted & self._follower.followed)
        self._follower.follow(changes.added)
        if changes.deleted:
            self._woken.set()

    async def _look(self) -> None:
        settings = self._watched.settings
        api = await self._watched.cluster.api()
        if (api.mode != "1.x") is not self._pushes:
            self.dialect_changed.set()
        are_pushed = api.mode == "3.x" and await self._watch_names()
        uncounted: NacosError | None = None
        self._looks += 1
        is_turn = self._looks % settings.full_listing_every == 0
        if are_pushed:
            is_due = time.monotonic() - self._listed_at >= settings.sweep_interval_s
        else:
            is_due = is_turn or not self._pushes
        if self._pushes:
            try:
                self._census.count(await api.count_services(self._watched.namespace))
            except (NacosRefusedError, NacosGarbageError) as error:
                uncounted = error
            else:
                is_due = is_due or (self._census.differs and (is_turn or not self._census.is_stubborn))
        else:
            self._interval_s = settings.http_interval_s
        if is_due or self._removals.needs_listing or not self._census.is_listed:
            await self._list(api)
        self._note_found()
        if uncounted is not None:
            raise uncounted

    async def _list(self, api: NacosApi) -> None:
        """Lists all names; what is new is followed before anything is made of what is missing."""
        self._listed_at = time.monotonic()
        listing = await api.list_services(self._watched.namespace)
        followed = self._follower.followed
        self._census.list(listing.services, listing.unusable, followed)
        self._follower.follow(listing.services.keys() - followed)
        self._follower.listed(listing.services)
        self._removals.listed(listing)

    def _note_found(self) -> None:
        """Lets the first keyframe be laid; it says so where services that are counted were not found."""
        view = self._watched.view
        is_late = self._census.is_stubborn or self._looks >= _MOST_LOOKS_AT_FIRST
        is_short = is_late and self._census.is_listed and not self._census.is_whole
        if not self.found.is_set() and (self._census.is_whole or is_short):
            self.found.set()
            view.services_short = is_short
            if is_short:
                _log.warning("services_not_found", namespace=view.namespace, left_to_find=self.left_to_find)
        elif view.services_short and not is_short:
            view.services_short = False
            self._watched.changed()

    async def _pause(self) -> None:
        """Until the next look is due, or a push says that a service vanished; at most ten looks a second."""
        try:
            async with asyncio.timeout(self._interval_s):
                await self._woken.wait()
        except TimeoutError:
            pass
        else:
            await asyncio.sleep(min(self._interval_s, _WOKEN_PAUSE_S))
        self._woken.clear()

    def _fail(self, error: NacosError) -> None:
        # The streams may be well while HTTP is not; their own ends are what counts.
        self._failure = str(error)
        self._follower.listing_failed(str(error))
        if isinstance(error, NacosRefusedError) and error.code in _OTHER_DIALECT:
            self._watched.cluster.forget_version()

    async def _watch_names(self) -> bool:
        """Whether names are pushed; asks for it on a new connection, and again every few minutes."""
        connection = self._follower.names_connection()
        if connection is None or not connection.abilities.get("fuzzyWatch"):
            self._fuzzy = None
            return False
        if connection is self._fuzzy_refused:
            return False
        if connection is not self._fuzzy_connection:
            self._fuzzy, self._fuzzy_connection = FuzzyWatch(connection.namespace), connection
            self._fuzzy_sent_at = float("-inf")
        fuzzy = self._fuzzy
        if fuzzy is None:
            return False
        if time.monotonic() - self._fuzzy_sent_at >= RESEND_S:
            try:
                await connection.request(REQUEST, fuzzy.request())
            except NacosRefusedError as error:
                self._refuse_names(connection, error)
                return False
            except NacosError:  # the connection is about to be made anew
                return False
            self._fuzzy_sent_at = time.monotonic()
        return fuzzy.finished

    def _refuse_names(self, connection: NacosConnection, error: NacosRefusedError) -> None:
        """The server pushes no names, or not all: over its limit it goes on with those that it has."""
        if error.code not in OVER_LIMIT:
            self._fuzzy = None
        self._fuzzy_refused = connection
        _log.warning("names are listed, not pushed", namespace=self._watched.namespace, reason=str(error))
