"""Decisions of the watch: links, names that are pushed, servers, redirects; without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers import metrics
from producers.errors import NacosForbiddenError, NacosUnavailableError
from producers.listener.namespace_watch import combine
from producers.listener.observation import NOTHING, corrected, lacks, pushed, without_removals
from producers.nacos.fuzzy_watch import FuzzyWatch
from producers.nacos.http.listing import counted_services, swept_services
from producers.nacos.payload import Envelope
from producers.nacos.servers import ServerList
from producers.nacos.service_info import Hosts, ServiceInfo, parse_hosts
from producers.settings import NacosSettings
from schemas.events import Instance, Link, ServiceKey
from tests.harness.fake_nacos.registry import host
from tests.unit.conversions import make

LIVE, DEGRADED, BLIND = Link.LIVE, Link.DEGRADED, Link.BLIND
FINE, POOR, NONE = (LIVE, "fine"), (DEGRADED, "poor"), (BLIND, "down")


@pytest.mark.parametrize(
    ("followers", "names", "configs", "link"),
    [
        ([FINE], FINE, FINE, LIVE),
        ([NONE], FINE, FINE, BLIND),
        ([NONE, NONE], FINE, FINE, BLIND),
        ([FINE, NONE], FINE, FINE, DEGRADED),
        ([FINE], NONE, FINE, BLIND),
        ([FINE], POOR, FINE, DEGRADED),
        ([FINE, POOR], FINE, FINE, DEGRADED),
        ([FINE], FINE, NONE, DEGRADED),
        ([], POOR, NONE, BLIND),
    ],
)
def test_the_link_of_a_namespace(followers: list[Any], names: Any, configs: Any, link: Link) -> None:
    """Blind when no connection stands or listings can't be believed; degraded when a part is lost."""
    assert combine(followers, names, configs)[0] is link


def test_a_fuzzy_watch_collects_names_and_says_what_it_has() -> None:
    """Batches, the end of them, changes; names of other namespaces and nonsense are passed over."""
    watch = FuzzyWatch("public")
    one, two = ServiceKey("g", "one"), ServiceKey("g", "two@@x")
    contexts = [
        {"serviceKey": "public@@g@@one", "changedType": "ADD_SERVICE"},
        {"serviceKey": "public@@g@@two@@x", "changedType": "ADD_SERVICE"},
        {"serviceKey": "other@@g@@three", "changedType": "ADD_SERVICE"},
        {"serviceKey": "nonsense"},
        5,
    ]
    changes = watch.receive(Envelope("NamingFuzzyWatchSyncRequest", {"contexts": contexts}))
    assert changes is not None
    assert changes.added == {one, two}
    assert not watch.finished
    assert watch.request()["initializing"]
    watch.receive(Envelope("NamingFuzzyWatchSyncRequest", {"syncType": "FINISH_FUZZY_WATCH_INIT_NOTIFY"}))
    assert watch.finished
    gone = {"serviceKey": "public@@g@@one", "changedType": "DELETE_SERVICE"}
    changes = watch.receive(Envelope("NamingFuzzyWatchChangeNotifyRequest", gone))
    assert changes is not None
    assert changes.deleted == {one}
    assert watch.request()["receivedGroupKeys"] == ["public@@g@@two@@x"]
    assert watch.receive(Envelope("NotifySubscriberRequest", {})) is None


def test_servers_are_taken_in_turn_and_a_redirect_may_name_another() -> None:
    """One URL each; an address that is none of them is taken as the server said."""

    async def turns() -> None:
        servers = ServerList(NacosSettings(servers=("http://10.0.0.1:8848", "https://10.0.0.2:443")))
        first = await servers.following(None)
        second = await servers.following(first)
        assert {first.url, second.url} == {"http://10.0.0.1:8848", "https://10.0.0.2:443"}
        assert await servers.following(second) == first
        assert (await servers.at("10.0.0.2", 443)).scheme == "https"
        assert (await servers.at("10.0.0.9", 8848)).grpc_address(1000) == "10.0.0.9:9848"

    asyncio.run(turns())


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name remains what a certificate is checked against; a name without an address says which setting."""

    async def resolve() -> None:
        loop = asyncio.get_running_loop()

        async def getaddrinfo(name: str, port: int, **_: Any) -> Any:
            if name == "nowhere":
                raise OSError
            return [(0, 0, 0, "", (ip, port)) for ip in ("10.0.0.2", "10.0.0.1", "10.0.0.1", "::1")]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        found = await ServerList(NacosSettings(servers=("https://nacos.example:8848",))).all()
        assert [server.url for server in found] == [
            "https://10.0.0.1:8848",
            "https://10.0.0.2:8848",
            "https://[::1]:8848",
        ]
        assert {server.name for server in found} == {"nacos.example"}
        with pytest.raises(NacosUnavailableError, match=r"nacos\.servers"):
            await ServerList(NacosSettings(servers=("http://nowhere",))).all()

    asyncio.run(resolve())


def test_a_password_has_no_place_in_a_url() -> None:
    """It would be shown wherever a server is named."""
    with pytest.raises(ValueError, match="password_file"):
        NacosSettings(servers=("http://user:s3cret@10.0.0.1:8848",))


def test_a_refusal_names_the_remedy() -> None:
    """Another one for those who did not log in."""
    assert "nacos.password_file" in str(NacosForbiddenError("login", 403, "shiplog"))
    assert "set nacos.username" in str(NacosForbiddenError("GET /x", 403, None))


def test_namespaces_beyond_a_number_share_a_label() -> None:
    """Whoever makes namespaces without end does not make metrics without end."""
    labels = {metrics.namespace_label(f"many-{number}") for number in range(1000)}
    assert len(labels) <= 201
    assert "others" in labels


def test_lists_with_garbage_in_them_yield_what_is_sound() -> None:
    """Entries without names, clusters that are none, thresholds out of range."""
    odd = [
        {"name": "", "groupName": "g"},
        {"name": "\ud800", "groupName": "g"},
        {"name": "x" * 2000, "groupName": "g"},
    ]
    names, unusable = counted_services([{"name": "a", "groupName": "g", "ipCount": "x"}, *odd, {}])
    assert (list(names), unusable) == ([ServiceKey("g", "a")], 4)
    entries = [
        {"serviceName": "a", "groupName": "g", "protectThreshold": 7, "clusterMap": {"c": {"hosts": [host(), 5]}}},
        {"serviceName": "b", "groupName": "g", "clusterMap": [1]},
        {"groupName": "g"},
    ]
    swept = swept_services(entries)
    assert [(one.key.service, one.protect_threshold, len(one.hosts)) for one in swept] == [
        ("a", 0.0, 1),
        ("b", 0.0, 0),
    ]


INSTANCES = st.dictionaries(
    st.integers(1, 6), st.tuples(st.booleans(), st.booleans(), st.sampled_from([0.5, 1.0, 2.0])), max_size=6
).map(
    lambda drawn: tuple(
        make(f"10.0.0.{number}", healthy=healthy, enabled=enabled, weight=weight)
        for number, (healthy, enabled, weight) in sorted(drawn.items())
    )
)


def info_of(truth: tuple[Instance, ...]) -> ServiceInfo:
    """What a server that does not protect the service pushes of it."""
    visible = tuple(instance for instance in truth if instance.enabled)
    return ServiceInfo(key=ServiceKey("g", "s"), hosts=Hosts(instances=visible, bad=()), protected=False)


@given(st.lists(INSTANCES, min_size=1, max_size=4))
def test_a_push_and_a_look_together_are_the_truth(history: list[tuple[Instance, ...]]) -> None:
    """Whatever was known before."""
    known = NOTHING
    for truth in history:
        known = pushed(known, info_of(truth))
        assert known.visible == info_of(truth).hosts.instances
        correction = corrected(known, truth, 0.0)
        assert not correction.ask_again
        known = correction.observation
        assert known.instances == truth


@given(INSTANCES, INSTANCES, INSTANCES)
def test_a_look_never_takes_or_adds_an_enabled_instance(
    before: tuple[Instance, ...], after: tuple[Instance, ...], catalog: tuple[Instance, ...]
) -> None:
    """However old or partial the catalog is; only that it tells of one disabled counts."""
    known = pushed(pushed(NOTHING, info_of(before)), info_of(after))
    found = corrected(known, catalog, 0.0).observation
    disabled = {instance.key for instance in catalog if not instance.enabled}
    assert {one.key for one in found.visible} == {one.key for one in known.visible} - disabled


@given(INSTANCES, INSTANCES)
def test_while_removals_are_withheld_nothing_is_lost(
    before: tuple[Instance, ...], after: tuple[Instance, ...]
) -> None:
    """Every instance that was visible is still known; what is new is known too."""
    known = pushed(NOTHING, info_of(before))
    held, withheld = without_removals(known, pushed(known, info_of(after)))
    assert not lacks(known, held.instances)
    assert {one.key for one in info_of(after).hosts.instances} <= {one.key for one in held.visible}
    assert withheld == lacks(known, info_of(after).hosts.instances)


@given(INSTANCES)
def test_a_known_instance_is_recognised_only_when_nothing_changed(instances: tuple[Instance, ...]) -> None:
    """The same object where all is equal, a new one where anything differs."""
    hosts = [
        host(one.ip, one.port, weight=one.weight, healthy=one.healthy, enabled=one.enabled) for one in instances
    ]
    known = {one.key: one for one in instances}
    assert all(a is b for a, b in zip(parse_hosts(hosts, known).instances, instances, strict=True))
    changed = [{**one, "metadata": {"k": "v"}} for one in hosts]
    assert all(one.metadata == {"k": "v"} for one in parse_hosts(changed, known).instances)
