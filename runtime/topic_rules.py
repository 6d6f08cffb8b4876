"""Judges how topics are set up: under which settings records would be lost or mixed (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.topics import DAY_MS, FOREVER, MAX_RECORD_BYTES, Access, Cleanup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runtime.settings import TopicsSettings
    from schemas.topics import TopicSettings

_LEAST_KEPT_MS: Final = DAY_MS
"""Keyframes are laid every 6 h, and a process that reads them may have been away for hours."""
_OPERATIONS: Final = {Access.READ: "Read", Access.WRITE: "Write"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTopic:
    """A topic as Kafka has it: `replicas` are the fewest of a partition, `config` the values in force.

    `allowed` is what the login may do with it; None where Kafka does not say.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str]
    allowed: Access | None = None

    def number(self, setting: str, default: int) -> int:
        """The value of a setting that is a number."""
        value = self.config.get(setting, "")
        return int(value) if value.lstrip("-").isdigit() else default


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A setting that is not as it is needed; one that is no fault loses nothing by itself.

    Without a `remedy` of its own, the setting is altered in Kafka.
    """

    topic: str
    setting: str
    value: str | int
    needed: str | int
    consequence: str
    remedy: str = ""
    is_fault: bool = True

    def __str__(self) -> str:
        return f"topic {self.topic} has {self.setting}={self.value}, needs {self.needed}: {self.consequence}"

    def text(self, servers: str) -> str:
        """The finding and how it is mended, as a line."""
        value = str(self.needed).removesuffix(" or more")
        alter = (
            f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics "
            f"--entity-name {self.topic} --add-config {self.setting}={value}"
        )
        return f"{self}; {self.remedy or alter}"


def judge(topic: TopicSettings, found: FoundTopic, settings: TopicsSettings) -> list[Finding]:
    """What is wrong with a topic, or may be; nothing where all is well."""
    return [
        *_shape(topic, found, settings),
        *_copies(topic, found, settings),
        *_kept(topic, found),
        *_taken(topic, found),
    ]


def missing_access(topic: TopicSettings, found: FoundTopic) -> list[str]:
    """The operations, as Kafka names them, that the login lacks."""
    if found.allowed is None:
        return []
    return [name for access, name in _OPERATIONS.items() if access in topic.access and access not in found.allowed]


def _shape(topic: TopicSettings, found: FoundTopic, settings: TopicsSettings) -> Iterator[Finding]:
    policy, wanted = found.config.get("cleanup.policy", ""), topic.cleanup.name.lower()
    if policy != wanted:
        yield Finding(
            topic=topic.name,
            setting="cleanup.policy",
            value=policy,
            needed=wanted,
            consequence="records would be lost",
        )
    if topic.carries_namespaces and found.partitions != settings.partitions:
        yield Finding(
            topic=topic.name,
            setting="partitions",
            value=found.partitions,
            needed=settings.partitions,
            consequence="namespaces would be looked for in the wrong partition",
            remedy=f"topics.partitions says {settings.partitions}: set it to {found.partitions}",
        )


def _copies(topic: TopicSettings, found: FoundTopic, settings: TopicsSettings) -> Iterator[Finding]:
    """A mirrored topic's records are in another Kafka, too, and its maker chooses its copies."""
    if found.replicas < settings.replication_factor:
        yield Finding(
            topic=topic.name,
            setting="replicas",
            value=found.replicas,
            needed=f"{settings.replication_factor} or more",
            consequence="records would be lost with the disks of that many brokers",
            remedy="kafka-reassign-partitions.sh makes more; or set topics.replication_factor to "
            f"{found.replicas} and topics.min_insync_replicas to {max(1, found.replicas - 1)} to live with that",
            is_fault=not topic.is_mirrored,
        )
    in_sync = found.number("min.insync.replicas", 1)
    if in_sync < settings.min_insync_replicas:
        yield Finding(
            topic=topic.name,
            setting="min.insync.replicas",
            value=in_sync,
            needed=settings.min_insync_replicas,
            consequence="records that count as written would be lost with one broker",
            is_fault=not topic.is_mirrored,
        )
    elif in_sync > found.replicas:
        yield Finding(
            topic=topic.name,
            setting="min.insync.replicas",
            value=in_sync,
            needed=settings.min_insync_replicas,
            consequence=f"nothing can be written: it has {found.replicas} replicas",
        )
    elif in_sync == found.replicas > 1:
        yield Finding(
            topic=topic.name,
            setting="min.insync.replicas",
            value=in_sync,
            needed=found.replicas - 1,
            consequence="nothing is written while any of its brokers is away",
            is_fault=False,
        )
    if found.config.get("unclean.leader.election.enable") == "true":
        yield Finding(
            topic=topic.name,
            setting="unclean.leader.election.enable",
            value="true",
            needed="false",
            consequence="records that count as written would be lost when all brokers that have them fail",
            is_fault=False,
        )


def _kept(topic: TopicSettings, found: FoundTopic) -> Iterator[Finding]:
    """A compacted topic keeps the last record of each key for ever, and tombstones for a while."""
    if topic.cleanup is Cleanup.COMPACT:
        tombstones = found.number("delete.retention.ms", DAY_MS)
        if tombstones < DAY_MS:
            yield Finding(
                topic=topic.name,
                setting="delete.retention.ms",
                value=tombstones,
                needed=f"{DAY_MS} or more",
                consequence="readers that were away for longer miss what was removed",
                is_fault=False,
            )
        return
    kept = found.number("retention.ms", FOREVER)
    if kept != FOREVER and not 0 <= topic.retention_ms <= kept:
        too_short = kept < _LEAST_KEPT_MS
        yield Finding(
            topic=topic.name,
            setting="retention.ms",
            value=kept,
            needed="-1" if topic.retention_ms == FOREVER else f"{topic.retention_ms} or more",
            consequence="records would go before all have read them"
            if too_short
            else "what is older can't be audited or rebuilt",
            is_fault=too_short,
        )
    if found.number("retention.bytes", FOREVER) != FOREVER:
        yield Finding(
            topic=topic.name,
            setting="retention.bytes",
            value=found.config["retention.bytes"],
            needed="-1",
            consequence="many changes at once may push out records that are needed",
            is_fault=False,
        )


def _taken(topic: TopicSettings, found: FoundTopic) -> Iterator[Finding]:
    """Records that Kafka would refuse."""
    largest = found.number("max.message.bytes", MAX_RECORD_BYTES)
    if largest < MAX_RECORD_BYTES:
        yield Finding(
            topic=topic.name,
            setting="max.message.bytes",
            value=largest,
            needed=f"{MAX_RECORD_BYTES} or more",
            consequence="larger records would be refused",
        )
    if found.config.get("message.timestamp.type") == "LogAppendTime":
        return
    for setting in ("message.timestamp.before.max.ms", "message.timestamp.difference.max.ms"):
        oldest = found.number(setting, DAY_MS)
        if oldest < DAY_MS:
            yield Finding(
                topic=topic.name,
                setting=setting,
                value=oldest,
                needed=f"{DAY_MS} or more",
                consequence="records that waited while Kafka was away would be refused",
            )
