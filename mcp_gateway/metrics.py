"""What the gateway counts. Names that Istio's operators know (`istio_mcp_*`) where the meaning is the same."""

from prometheus_client import Counter, Gauge

from mcp_gateway.loop_metrics import LoopCounter, LoopHistogram
from mcp_gateway.sessions.known_types import COLLECTIONS
from mcp_gateway.views.synthetic import SYNTHETIC_ENTRIES

CLIENTS = Gauge("istio_mcp_clients_total", "Streams that are open.", ["component"])
REQUEST_ACKS = LoopCounter("istio_mcp_request_acks", "Pushes acknowledged.", ["collection"])
REQUEST_NACKS = Counter("istio_mcp_request_nacks", "Pushes refused.", ["collection", "code"])
MESSAGE_SIZES = LoopHistogram(
    "istio_mcp_message_sizes_bytes",
    "Sizes of pushes.",
    ["collection"],
    buckets=(1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 5e7, 1e8),
)
SEND_FAILURES = Counter("istio_mcp_send_failures", "Streams that ended while a push was written.")
RECONNECTIONS = Counter("istio_mcp_reconnections", "Sinks that were dialled again.")
SINK_FAULTS = Counter(
    "shiplog_gateway_sink_faults_total", "Ends of streams to sinks that are dialled, by reason.", ["reason"]
)
STREAMS = Gauge("shiplog_gateway_streams", "Streams that are open, by protocol.", ["protocol"])
FOLLOWERS = Gauge("shiplog_gateway_followers", "Streams that follow a view.", ["view"])
REFUSED_STREAMS = Counter(
    "shiplog_gateway_refused_streams_total", "Streams refused or ended by the gateway, by reason.", ["reason"]
)
STALE_NONCES = Counter("shiplog_gateway_stale_nonces_total", "Requests with a nonce that is not pending.")
PUSHES = LoopCounter("shiplog_gateway_pushes", "Pushes sent.", ["view", "protocol"])
PUSHED_BYTES = LoopCounter("shiplog_gateway_pushed_bytes", "Bytes of pushes sent.", ["view", "protocol"])
COALESCED = LoopCounter(
    "shiplog_gateway_coalesced", "Changes that waited for an answer to the push before.", ["view"]
)
PUSH_TO_ACK = LoopHistogram(
    "shiplog_gateway_push_to_ack_seconds",
    "From Nacos's push to the Pilot's acknowledgement.",
    ["protocol"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
)
DELIVERIES = LoopCounter("shiplog_gateway_deliveries", "Deliveries recorded, by kind.", ["kind"])
DELIVERIES_MISSING = Counter(
    "shiplog_gateway_deliveries_missing_total", "Deliveries that the audit trail had no room for."
)
CERTIFICATES = Counter(
    "shiplog_gateway_certificate_reads_total", "Changed certificate files, by outcome.", ["outcome"]
)
APPLIED = Counter("shiplog_gateway_snapshots_applied_total", "Manifests applied.")
DIGEST_MISMATCHES = Counter(
    "shiplog_gateway_digest_mismatches_total", "Manifests that did not match what the gateway holds."
)
QUARANTINED = Counter("shiplog_gateway_quarantined_total", "Records set aside, by reason.", ["reason"])
REREADS = Counter(
    "shiplog_gateway_rereads_total",
    "Partitions read again from their beginning because a namespace did not match its manifest.",
)
AT_FAULT = Gauge(
    "shiplog_gateway_namespaces_at_fault",
    "Namespaces whose newest state can't be used; the last good snapshot stands, if one is known.",
)
UNKNOWN = Gauge(
    "shiplog_gateway_namespaces_unknown",
    "Namespaces that exist and of which no good snapshot is known: Pilots whose view has one are refused for "
    "a time, then answered without it.",
)
CLAIMED_BY_SEVERAL = Gauge(
    "shiplog_gateway_names_claimed_by_several",
    "Names that resources of several namespaces want in a view; one of each is shown.",
    ["view"],
)
CACHED = Gauge("shiplog_gateway_namespaces_cached", "Namespaces that are served from the cache on disk.")
CACHE_AGE = Gauge(
    "shiplog_gateway_cache_age_seconds",
    "Since the oldest snapshot that is served from the cache was last known to be Kafka's; 0 if none is served.",
)
CACHE_BYTES = Gauge("shiplog_gateway_cache_bytes", "Bytes of the cache on disk.")
CACHE_WRITES = Counter("shiplog_gateway_cache_writes_total", "Snapshots written to disk, by outcome.", ["outcome"])
CACHE_REFUSED = Counter(
    "shiplog_gateway_cache_files_refused_total", "Files of the cache that can't be used, by reason.", ["reason"]
)
RESOURCES = Gauge("shiplog_gateway_resources", "Resources held.")
NAMESPACES = Gauge("shiplog_gateway_namespaces", "Namespaces held.")
MESSAGE_CACHE = Gauge("shiplog_gateway_message_bytes", "Bytes of encoded pushes that are kept for other streams.")
SUBSCRIPTION_BYTES = Gauge(
    "shiplog_gateway_subscription_bytes", "Bytes kept of names and versions that clients subscribe to or state."
)
IN_FLIGHT = Gauge("shiplog_gateway_in_flight_bytes", "Bytes of large pushes that are being sent.")
WAITING_FOR_ROOM = Gauge("shiplog_gateway_waiting_for_room", "Streams whose large push waits for others'.")
DATA_AGE = Gauge("shiplog_gateway_data_age_seconds", "Since Kafka last gave a record, or said that there is none.")
IS_READY = Gauge("shiplog_gateway_ready", "Whether Pilots are served.")

_KNOWN_COLLECTIONS = {*COLLECTIONS.values(), SYNTHETIC_ENTRIES}
_MAX_CODE = 16


def refused(collection: str, code: int) -> None:
    """A push was refused with that gRPC code."""
    known_code = str(code) if 0 <= code <= _MAX_CODE else "other"
    REQUEST_NACKS.labels(collection_label(collection), known_code).inc()


def collection_label(collection: str) -> str:
    """Peers may ask for any name, so those without resources share a label."""
    return collection if collection in _KNOWN_COLLECTIONS else "other"
