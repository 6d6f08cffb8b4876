"""What Nacos answers over HTTP, any field of it filled with whatever JSON can say: it is read, or refused."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.errors import NacosError
from producers.nacos.fuzzy_watch import FuzzyWatch
from producers.nacos.http.client import Answer
from producers.nacos.http.v1 import V1Api
from producers.nacos.http.v3 import V3Api
from producers.nacos.names import is_name, is_namespace
from producers.nacos.payload import Envelope
from producers.nacos.servers import Server
from producers.nacos.service_info import parse_hosts
from schemas.events import Namespace, ServiceKey
from tests.harness.fake_nacos.registry import host
from tests.property.hostile import SETTINGS, json_values

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLIC, KEY = Namespace("public"), ServiceKey("g", "a")
SERVER = Server(scheme="http", address="127.0.0.1", port=8848, name="localhost")
HOST = host()
NAMES = [{"name": "a", "groupName": "g", "ipCount": 1, "healthyInstanceCount": 1}]
SWEPT = [
    {"serviceName": "a", "groupName": "g", "protectThreshold": 0.5, "clusterMap": {"c": {"hosts": [dict(HOST)]}}}
]
ITEMS = [{"dataId": "d", "group": "g", "groupName": "g", "content": "a: 1"}]
NAMESPACES = [{"namespace": "team-a"}, {"namespace": ""}]


def new(data: Any) -> Any:
    """An answer of 3.x."""
    return {"code": 0, "message": "success", "data": data}


CALLS: list[tuple[str, Any, Callable[[Any], Any]]] = [
    ("v1", {"data": NAMESPACES}, lambda api: api.namespaces()),
    ("v1", {"count": 1, "serviceList": NAMES}, lambda api: api.count_services(PUBLIC)),
    ("v1", {"count": 1, "serviceList": NAMES}, lambda api: api.list_services(PUBLIC)),
    ("v1", SWEPT, lambda api: api.sweep_page(PUBLIC, 1, 500)),
    ("v1", {"list": [HOST], "count": 1}, lambda api: api.true_hosts(PUBLIC, KEY, {"DEFAULT"})),
    ("v1", {"protectThreshold": 0.5}, lambda api: api.protect_threshold(PUBLIC, KEY)),
    ("v1", {"hosts": [HOST]}, lambda api: api.visible_service(PUBLIC, KEY)),
    ("v1", {"pageItems": ITEMS, "pagesAvailable": 1}, lambda api: api.search_configs(PUBLIC, "g")),
    ("v3", new(NAMESPACES), lambda api: api.namespaces()),
    ("v3", new({"totalCount": 1, "pageItems": NAMES}), lambda api: api.count_services(PUBLIC)),
    ("v3", new({"totalCount": 1, "pagesAvailable": 1, "pageItems": NAMES}), lambda api: api.list_services(PUBLIC)),
    ("v3", new({"pageItems": SWEPT}), lambda api: api.sweep_page(PUBLIC, 1, 500)),
    ("v3", new([HOST]), lambda api: api.true_hosts(PUBLIC, KEY, {"DEFAULT"})),
    ("v3", new({"protectThreshold": 0.5}), lambda api: api.protect_threshold(PUBLIC, KEY)),
    ("v3", new([HOST]), lambda api: api.visible_service(PUBLIC, KEY)),
    ("v3", new({"pageItems": ITEMS, "pagesAvailable": 1}), lambda api: api.search_configs(PUBLIC, "g")),
]


class Answers:
    """In place of HTTP: one answer, for a few pages."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._left = 3

    async def get(self, path: str, params: dict[str, Any], *, server: Server | None = None) -> Any:
        return (await self.get_answer(path, params, server=server)).json

    async def get_answer(self, _: str, __: dict[str, Any], *, server: Server | None = None) -> Answer:
        assert server in {None, SERVER}
        self._left -= 1
        return Answer(copy.deepcopy(self._answer) if self._left >= 0 else {}, SERVER)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, one in parts for rest in places(one))]


def with_part(value: Any, place: tuple[Any, ...], part: Any) -> Any:
    """The value with something else at that place."""
    if not place:
        return part
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[place[0]] = with_part(value[place[0]], place[1:], part)
    return changed


@SETTINGS
@given(st.sampled_from(CALLS), st.data())
def test_an_answer_of_any_form_is_read_or_refused(
    call: tuple[str, Any, Callable[[Any], Any]], data: st.DataObject
) -> None:
    """No exception but the declared ones; names can be written, instances are parsed."""
    version, template, ask = call
    place = data.draw(st.sampled_from(places(template)))
    try:
        hostile = orjson.loads(data.draw(json_values))
    except ValueError:
        return  # the HTTP client calls it garbage
    http: Any = Answers(with_part(template, place, hostile))
    api = V1Api(http, mode="2.x", version="2.3.2") if version == "v1" else V3Api(http, version="3.0.3")
    try:
        found = asyncio.run(ask(api))
    except NacosError:
        return
    check(found)


def check(found: Any) -> None:
    """That what was read can be worked with."""
    match found:
        case frozenset():
            assert all(is_namespace(name) for name in found)
        case (services, _, server) if server == SERVER:
            assert all(is_name(part) for key in services for part in key)
        case {"hosts": hosts}:
            parse_hosts(hosts)
        case dict():
            assert all(is_name(part) for key in found for part in key)
        case list():
            parse_hosts([one for swept in found for one in (swept if isinstance(swept, dict) else swept.hosts)])
        case _:
            assert isinstance(found, int | float)


@SETTINGS
@given(st.sampled_from(["NamingFuzzyWatchSyncRequest", "NamingFuzzyWatchChangeNotifyRequest"]), st.data())
def test_pushed_names_of_any_form_are_read_or_passed_over(kind: str, data: st.DataObject) -> None:
    """What is read can be followed."""
    body = {
        "syncType": "FUZZY_WATCH_INIT_NOTIFY", "serviceKey": "public@@g@@a", "changedType": "ADD_SERVICE",
        "contexts": [{"serviceKey": "public@@g@@b", "changedType": "DELETE_SERVICE"}],
    }  # fmt: skip
    place = data.draw(st.sampled_from(places(body)[1:]))
    try:
        hostile = orjson.loads(data.draw(json_values))
    except ValueError:
        return
    changes = FuzzyWatch("public").receive(Envelope(kind, with_part(body, place, hostile)))
    assert changes is not None
    assert all(is_name(part) for key in changes.added | changes.deleted for part in key)


def test_a_server_whose_pages_never_end_is_left() -> None:
    """It says that there are more pages than anybody has services."""

    class Endless(Answers):
        asked = 0

        async def get_answer(self, *_: Any, **__: Any) -> Answer:
            Endless.asked += 1
            return Answer(new({"pageItems": NAMES, "pagesAvailable": 10**18}), SERVER)

    http: Any = Endless(None)
    listing = asyncio.run(V3Api(http, version="3.0.3").list_services(PUBLIC))
    assert list(listing.services) == [KEY]
    assert Endless.asked <= 10_000


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 2000, None, 5, [], {}])
def test_names_that_cannot_be_written_are_none(name: Any) -> None:
    """Whatever JSON says."""
    assert not is_name(name)
    assert not is_namespace(name)
