"""What Nacos's lists hold, and the interface that both generations of its HTTP paths offer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Protocol, TypeVar

from producers.errors import NacosGarbageError
from producers.nacos.names import is_name, is_namespace
from schemas.events import ConfigKey, Namespace, ServiceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from producers.nacos.servers import Server
    from producers.settings import Mode

P = ParamSpec("P")
T = TypeVar("T")

PUBLIC = Namespace("public")
_MOST_PAGES = 10_000


def unreadable_is_garbage(ask: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Makes a call raise NacosGarbageError for an answer of another form than expected, whatever that form is."""

    @wraps(ask)
    async def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await ask(*args, **kwargs)
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            raise NacosGarbageError(f"{ask.__name__}: {type(error).__name__}: {error!s:.200}") from error

    return asked


class Counts(NamedTuple):
    """How many instances a list says that a service has: when they differ, something changed."""

    instances: int
    healthy: int


class Listing(NamedTuple):
    """The services that one server lists, and how many more it lists whose names can't be used."""

    services: dict[ServiceKey, Counts]
    unusable: int
    server: Server


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptService:
    """A service as a list with instances shows it: disabled ones too, and their true health."""

    key: ServiceKey
    protect_threshold: float
    hosts: tuple[dict[str, Any], ...]
    """Instances in Nacos's form; `ephemeral` may be missing."""


class NacosApi(Protocol):
    """What a listener asks over HTTP; every call raises as `NacosHttp` does, and `NacosGarbageError`.

    `server` names the one that is asked; without it, the one that answered last.
    """

    @property
    def mode(self) -> Mode:
        """The dialect that is spoken."""

    @property
    def version(self) -> str:
        """What the servers say that they are."""

    async def namespaces(self) -> frozenset[Namespace]:
        """The ids of all namespaces; the public one is `public`."""

    async def count_services(self, namespace: Namespace) -> int:
        """How many services the namespace has: a cheap look for change."""

    async def list_services(self, namespace: Namespace, *, server: Server | None = None) -> Listing:
        """The services of all groups, empty ones included, as one server lists them."""

    async def sweep_page(self, namespace: Namespace, page: int, size: int) -> list[SweptService]:
        """A page of services with their instances, counted from 1; empty after the last one."""

    async def true_hosts(
        self, namespace: Namespace, key: ServiceKey, clusters: Collection[str], *, server: Server | None = None
    ) -> list[dict[str, Any]]:
        """Every instance of a service in these clusters, disabled ones too, in Nacos's form."""

    async def protect_threshold(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> float:
        """The service's protect threshold; 0 for a service that is not there."""

    async def visible_service(
        self, namespace: Namespace, key: ServiceKey, *, server: Server | None = None
    ) -> dict[str, Any]:
        """The `serviceInfo` that clients of that server are given."""

    async def search_configs(self, namespace: Namespace, group: str) -> dict[ConfigKey, str | None]:
        """The config items of the groups that match (`*` stands for anything), and their texts where listed."""


def public_as(namespace: Namespace, name: str) -> str:
    """The namespace as a server calls it; `name` is what it calls the public one."""
    return name if namespace == PUBLIC else namespace


def service_params(namespace: Namespace, key: ServiceKey) -> dict[str, str]:
    """The parameters that name one service, in all versions."""
    return {
        "namespaceId": public_as(namespace, PUBLIC),
        "groupName": key.group,
        "serviceName": key.service,
    }


def namespace_ids(entries: Any) -> frozenset[Namespace]:
    """The ids in a list of namespaces; those that can't be part of a record's key are left out."""
    ids = (entry.get("namespace") or PUBLIC for entry in objects(entries, "namespaces"))
    return frozenset(Namespace(name) for name in ids if is_namespace(name))


def objects(entries: Any, what: str) -> list[dict[str, Any]]:
    """The JSON objects of a list.

    Raises:
        NacosGarbageError: it is no list.
    """
    if not isinstance(entries, list):
        raise NacosGarbageError(f"{what} without a list: {str(entries)[:200]}")
    return [entry for entry in entries if isinstance(entry, dict)]


def field(answer: Any, name: str, what: str) -> Any:
    """A field of a JSON object.

    Raises:
        NacosGarbageError: it is no object, or has no such field.
    """
    if not isinstance(answer, dict) or name not in answer:
        raise NacosGarbageError(f"{what} without {name}: {str(answer)[:200]}")
    return answer[name]


def counted_services(entries: Iterable[dict[str, Any]]) -> tuple[dict[ServiceKey, Counts], int]:
    """Services and their counts, from the entries of a list without instances; how many have unusable names."""
    found: dict[ServiceKey, Counts] = {}
    unusable = 0
    for entry in entries:
        group, name = entry.get("groupName"), entry.get("name")
        if is_name(group) and is_name(name):
            counts = Counts(_number(entry.get("ipCount")), _number(entry.get("healthyInstanceCount")))
            found[ServiceKey(group, name)] = counts
        else:
            unusable += 1
    return found, unusable


def swept_services(entries: Iterable[dict[str, Any]]) -> list[SweptService]:
    """Services with their instances, from the entries of a list with instances."""
    return [
        SweptService(
            key=ServiceKey(str(entry["groupName"]), str(entry["serviceName"]).split("@@")[-1]),
            protect_threshold=threshold(entry.get("protectThreshold")),
            hosts=tuple(_hosts(entry.get("clusterMap"))),
        )
        for entry in entries
        if is_name(entry.get("serviceName")) and is_name(entry.get("groupName"))
    ]


def _hosts(clusters: Any) -> Iterable[dict[str, Any]]:
    for name, cluster in clusters.items() if isinstance(clusters, dict) else ():
        for host in (cluster.get("hosts") or ()) if isinstance(cluster, dict) else ():
            if isinstance(host, dict):
                # 1.x and 2.x call it valid here, and healthy elsewhere.
                host["clusterName"] = name
                host.setdefault("healthy", host.get("valid"))
                yield host


def config_items(entries: Iterable[dict[str, Any]], group_field: str) -> dict[ConfigKey, str | None]:
    """Config items and their texts, where the list holds them."""
    return {
        ConfigKey(str(entry[group_field]), str(entry["dataId"])): _text(entry.get("content"))
        for entry in entries
        if is_name(entry.get(group_field)) and is_name(entry.get("dataId"))
    }


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def pages_of(answer: Any) -> int:
    """How many pages an answer says that there are; 1 where it says nothing usable."""
    pages = answer.get("pagesAvailable") if isinstance(answer, dict) else None
    return min(pages, _MOST_PAGES) if isinstance(pages, int) else 1


def threshold(value: Any) -> float:
    """A protect threshold; 0 for what can't be one."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
