"""What the listener counts; labels are datacenter, namespace, kinds and causes, never services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_MOST_NAMESPACES = 200
_OTHERS = "others"
_namespaces: set[str] = set()

BY_NAMESPACE = ["datacenter", "namespace"]

EVENTS = Counter("shiplog_listener_events_total", "Events written, by kind.", [*BY_NAMESPACE, "kind"])
PUSHES = Counter("shiplog_listener_pushes_total", "Pushes received from Nacos.", BY_NAMESPACE)
RECONNECTS = Counter(
    "shiplog_listener_reconnects_total", "Connections to Nacos that ended, by cause.", [*BY_NAMESPACE, "cause"]
)
QUARANTINED = Counter(
    "shiplog_listener_quarantined_total",
    "Instances and config items that can't be used, by reason; each is counted once until it changes.",
    [*BY_NAMESPACE, "reason"],
)
REFUSALS = Counter(
    "shiplog_listener_refusals_total",
    "Services and config items that were set aside because Nacos refuses them or tells nonsense, by kind; "
    "each is counted again when the reason changes.",
    [*BY_NAMESPACE, "kind"],
)
GARBAGE = Counter(
    "shiplog_listener_garbage_total", "Messages and answers of Nacos that can't be read.", BY_NAMESPACE
)
REMOVALS_WITHHELD = Counter(
    "shiplog_listener_removals_withheld_total",
    "Services whose removals wait for a second look after a reconnect.",
    BY_NAMESPACE,
)
CORRECTIONS = Counter(
    "shiplog_listener_corrections_total", "Services whose true state the sweep put right.", BY_NAMESPACE
)
LISTINGS_DOUBTED = Counter(
    "shiplog_listener_listings_doubted_total",
    "Listings that lack most of the services that are known.",
    BY_NAMESPACE,
)
PUSH_TO_EVENT = Histogram(
    "shiplog_listener_push_to_event_seconds",
    "From a push received to its event handed to Kafka's client.",
    BY_NAMESPACE,
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
KEYFRAMES = Counter("shiplog_listener_keyframes_total", "Keyframes laid, by reason.", ["datacenter", "reason"])
LOST = Counter("shiplog_listener_events_lost_total", "Events Kafka refused for good.", ["datacenter", "reason"])
PARTITIONS = Gauge("shiplog_listener_partitions", "Partitions owned.", ["datacenter"])
QUEUED = Gauge("shiplog_listener_queued_events", "Events Kafka does not have yet.", ["datacenter"])


class NamespaceFacts(NamedTuple):
    """A namespace's gauges. `link` is 2 for live, 1 for degraded, 0 for blind."""

    services: int
    instances: int
    config_items: int
    link: int
    contact_age_s: float
    services_refused: int
    services_left_to_find: int
    config_items_refused: int
    config_items_unknown: int


_GAUGES = {
    "services": ("shiplog_listener_services", "Services watched."),
    "instances": ("shiplog_listener_instances", "Instances last stated."),
    "config_items": ("shiplog_listener_config_items", "Config items watched."),
    "link": ("shiplog_listener_link", "2 live, 1 degraded, 0 blind."),
    "contact_age_s": (
        "shiplog_listener_contact_age_seconds",
        "Since Nacos was last heard of, in any way.",
    ),
    "services_refused": (
        "shiplog_listener_services_refused",
        "Services set aside: Nacos refuses them, or tells nonsense.",
    ),
    "services_left_to_find": (
        "shiplog_listener_services_left_to_find",
        "Services that Nacos counts and that are not known by name.",
    ),
    "config_items_refused": (
        "shiplog_listener_config_items_refused",
        "Config items set aside: Nacos refuses them, or they can't be stated.",
    ),
    "config_items_unknown": (
        "shiplog_listener_config_items_unknown",
        "1 while nothing is known of some group's config items: those in the log stand.",
    ),
}


class NamespaceGauges(Collector):
    """Reads the gauges when they are asked for, so that they cost nothing in between.

    The namespaces beyond the first 200 share a label: their numbers are added up, of links the worst counts and of
    ages the greatest. `facts` is called on the admin server's thread.
    """

    def __init__(self, datacenter: str, facts: Callable[[], dict[str, NamespaceFacts]]) -> None:
        self._datacenter = datacenter
        self._facts = facts
        REGISTRY.register(self)

    def close(self) -> None:
        """The gauges are gone."""
        REGISTRY.unregister(self)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The gauges without values, which is what registration asks for."""
        return [GaugeMetricFamily(name, text, labels=BY_NAMESPACE) for name, text in _GAUGES.values()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they are now."""
        by_label: dict[str, NamespaceFacts] = {}
        for namespace, facts in self._facts().items():
            label = namespace_label(namespace)
            by_label[label] = _together(by_label[label], facts) if label in by_label else facts
        for field, (name, text) in _GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=BY_NAMESPACE)
            for label, facts in by_label.items():
                family.add_metric([self._datacenter, label], getattr(facts, field))
            yield family


def namespace_label(namespace: str) -> str:
    """The namespace as a label's value: its name for the first 200 of them, `others` afterwards."""
    if namespace in _namespaces or len(_namespaces) < _MOST_NAMESPACES:
        _namespaces.add(namespace)
        return namespace
    return _OTHERS


def _together(one: NamespaceFacts, other: NamespaceFacts) -> NamespaceFacts:
    sums: Any = [a + b for a, b in zip(one, other, strict=True)]
    return NamespaceFacts(*sums)._replace(
        link=min(one.link, other.link), contact_age_s=max(one.contact_age_s, other.contact_age_s)
    )
