"""What the materializer counts; labels are kinds, reasons and partitions, never services."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter("shiplog_materializer_events_total", "Events folded, by outcome.", ["outcome"])
QUARANTINED = Counter("shiplog_materializer_quarantined_total", "Records set aside, by reason.", ["reason"])
RESOURCES_WRITTEN = Counter("shiplog_materializer_resources_written_total", "Resource records and tombstones.")
VERSIONS = Counter("shiplog_materializer_versions_total", "Manifests published.")
TRANSACTIONS = Counter("shiplog_materializer_transactions_total", "Transactions, by outcome.", ["outcome"])
STARTS_OVER = Counter(
    "shiplog_materializer_starts_over_total", "Engines that ended before they were to, by cause.", ["cause"]
)
LOG_FAULTS = Counter(
    "shiplog_materializer_log_faults_total",
    "Partitions of topics that were not as they had been folded, when they were taken over, by fault.",
    ["fault"],
)
RECOVERIES = Counter("shiplog_materializer_recoveries_total", "Partitions recovered.")
RECOVERY_DIFFERENCES = Counter(
    "shiplog_materializer_recovery_differences_total",
    "Namespaces whose recovered content was not what stood published.",
)
BATCH = Histogram(
    "shiplog_materializer_batch_events", "Events in a batch.", buckets=(1, 2, 5, 10, 50, 100, 500, 1000, 5000)
)
COMMIT_SECONDS = Histogram(
    "shiplog_materializer_commit_seconds",
    "A transaction from its first record to its commit.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
EVENT_TO_SNAPSHOT = Histogram(
    "shiplog_materializer_event_to_snapshot_seconds",
    "From Nacos's push to the committed snapshot.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
)
PARTITIONS = Gauge("shiplog_materializer_partitions", "Partitions owned.")
NAMESPACES = Gauge("shiplog_materializer_namespaces", "Namespaces published.")
RESOURCES = Gauge("shiplog_materializer_resources", "Resources published.")
HOLDS = Gauge("shiplog_materializer_holds", "Holds of the guard that are open.", ["scope", "mode"])
HOLDS_ENDED = Counter(
    "shiplog_materializer_holds_ended_total", "Holds of the guard that ended, by why.", ["scope", "ending"]
)
HEAD_HOLDS = Gauge(
    "shiplog_materializer_head_holds", "Services whose instances vote for other ports than they have.", ["mode"]
)
HEAD_HOLDS_ENDED = Counter(
    "shiplog_materializer_head_holds_ended_total", "Holds of heads that ended, by why.", ["ending"]
)
DECISIONS = Counter(
    "shiplog_materializer_decisions_total", "Operators' decisions, by kind and outcome.", ["kind", "outcome"]
)
STANDING = Gauge("shiplog_materializer_standing_namespaces", "Namespaces that are frozen or pinned.")
LAG = Gauge("shiplog_materializer_lag_events", "Offsets in the log that are not folded yet, by topic.", ["topic"])
RECOVERY_LEFT = Gauge("shiplog_materializer_recovery_left_events", "Offsets that recoveries still have to fold.")
OVERSIZED = Gauge("shiplog_materializer_oversized_resources", "Resources that are too large to be written.")
FAULTED = Gauge(
    "shiplog_materializer_faulted_resources", "Resources that a fault of shiplog keeps at their last good content."
)
SET_ASIDE = Gauge(
    "shiplog_materializer_set_aside_instances",
    "Instances that Nacos gives out and that are not listed, by why.",
    ["why"],
)
WARNED_ITEMS = Gauge("shiplog_materializer_warned_items", "Config items in which Istio warns of something.")
CONFLICTS = Gauge("shiplog_materializer_conflicts", "Resources that several want to state.")
RIVALS = Gauge(
    "shiplog_materializer_name_rivals", "Resources' names and hosts that several services of a namespace want."
)
WITHOUT_ADDRESS = Gauge(
    "shiplog_materializer_services_without_address",
    "Services for which the range of virtual addresses had none left.",
)
SUSPECT = Gauge(
    "shiplog_materializer_suspect_namespaces", "Namespaces with a hole in their events, in each datacenter."
)
STRANGE = Gauge(
    "shiplog_materializer_strange_sessions",
    "Datacenters whose newest session has an absurd epoch or sequence, or is silent while an older one goes on.",
)
CLOCK_JUMPS = Counter(
    "shiplog_materializer_clock_jumps_total", "Records with a time more than an hour from that of the one before."
)
AWAITING = Gauge(
    "shiplog_materializer_awaiting_namespaces",
    "Namespaces that stand at what was published before a hole in the log, until their next keyframe.",
)
