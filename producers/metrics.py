"""What the listener counts; labels are datacenter, kinds and causes, never services."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("shiplog_listener_events_total", "Events written, by kind.", ["datacenter", "kind"])
PUSHES = Counter("shiplog_listener_pushes_total", "Pushes received from Nacos.", ["datacenter"])
RECONNECTS = Counter(
    "shiplog_listener_reconnects_total", "Connections to Nacos that ended, by cause.", ["datacenter", "cause"]
)
BAD_INSTANCES = Counter(
    "shiplog_listener_bad_instances_total",
    "Instances that can't be used, by reason.",
    ["datacenter", "reason"],
)
GARBAGE = Counter("shiplog_listener_garbage_total", "Messages of Nacos that can't be read.", ["datacenter"])
REMOVALS_WITHHELD = Counter(
    "shiplog_listener_removals_withheld_total",
    "Services whose removals wait for a second look after a reconnect.",
    ["datacenter"],
)
KEYFRAMES = Counter("shiplog_listener_keyframes_total", "Keyframes laid, by reason.", ["datacenter", "reason"])
LOST = Counter("shiplog_listener_events_lost_total", "Events Kafka refused for good.", ["datacenter", "reason"])
OVERSIZED = Counter("shiplog_listener_oversized_total", "Events too large for the log, left out.", ["datacenter"])
SERVICES = Gauge("shiplog_listener_services", "Services watched.", ["datacenter"])
INSTANCES = Gauge("shiplog_listener_instances", "Instances last stated.", ["datacenter"])
PARTITIONS = Gauge("shiplog_listener_partitions", "Partitions owned.", ["datacenter"])
LINK = Gauge("shiplog_listener_link", "2 live, 1 degraded, 0 blind.", ["datacenter"])
QUEUED = Gauge("shiplog_listener_queued_events", "Events Kafka does not have yet.", ["datacenter"])
PUSH_TO_EVENT = Histogram(
    "shiplog_listener_push_to_event_seconds",
    "From a push received to its event handed to Kafka's client.",
    ["datacenter"],
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
