"""What the gateway counts. Names that Istio's operators know (`istio_mcp_*`) where the meaning is the same."""

from prometheus_client import Counter, Gauge, Histogram

CLIENTS = Gauge("istio_mcp_clients_total", "Streams that are open.", ["component"])
REQUEST_ACKS = Counter("istio_mcp_request_acks", "Pushes acknowledged.", ["collection"])
REQUEST_NACKS = Counter("istio_mcp_request_nacks", "Pushes refused.", ["collection", "code"])
MESSAGE_SIZES = Histogram(
    "istio_mcp_message_sizes_bytes",
    "Sizes of pushes.",
    ["collection"],
    buckets=(1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 5e7, 1e8),
)
SEND_FAILURES = Counter("istio_mcp_send_failures", "Streams that ended while a push was written.")
STREAMS = Gauge("shiplog_gateway_streams", "Streams that are open, by protocol.", ["protocol"])
REFUSED_STREAMS = Counter("shiplog_gateway_refused_streams_total", "Streams refused, by reason.", ["reason"])
STALE_NONCES = Counter("shiplog_gateway_stale_nonces_total", "Requests with a nonce that is not pending.")
PUSH_TO_ACK = Histogram(
    "shiplog_gateway_push_to_ack_seconds",
    "From Nacos's push to the Pilot's acknowledgement.",
    ["protocol"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 30),
)
DELIVERIES = Counter("shiplog_gateway_deliveries_total", "Deliveries recorded, by kind.", ["kind"])
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
RESOURCES = Gauge("shiplog_gateway_resources", "Resources held.")
NAMESPACES = Gauge("shiplog_gateway_namespaces", "Namespaces held.")
