"""What the listener counts; labels are datacenter, namespace, kinds and causes, never services."""

from prometheus_client import Counter, Gauge, Histogram

_MOST_NAMESPACES = 200
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
SERVICES = Gauge("shiplog_listener_services", "Services watched.", BY_NAMESPACE)
INSTANCES = Gauge("shiplog_listener_instances", "Instances last stated.", BY_NAMESPACE)
CONFIG_ITEMS = Gauge("shiplog_listener_config_items", "Config items watched.", BY_NAMESPACE)
LINK = Gauge("shiplog_listener_link", "2 live, 1 degraded, 0 blind.", BY_NAMESPACE)
CONTACT_AGE = Gauge(
    "shiplog_listener_contact_age_seconds", "Since Nacos was last heard of, in any way.", BY_NAMESPACE
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

_GAUGES = (SERVICES, INSTANCES, CONFIG_ITEMS, LINK, CONTACT_AGE)


def namespace_label(namespace: str) -> str:
    """The namespace as a label's value: its name for the first 200 of them, `others` afterwards."""
    if namespace in _namespaces or len(_namespaces) < _MOST_NAMESPACES:
        _namespaces.add(namespace)
        return namespace
    return "others"


def forget_namespace(datacenter: str, namespace: str) -> None:
    """The namespace is no longer watched here: its gauges would go on saying what was true once."""
    if namespace in _namespaces:
        for gauge in _GAUGES:
            gauge.remove(datacenter, namespace)
