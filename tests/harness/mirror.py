"""MirrorMaker 2, from one datacenter's Kafka to another's, as a child of the test run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.topics import REGISTRY_EVENTS
from shiplog.local_stack.child import Child
from shiplog.local_stack.jars import bring_jars, class_path
from tests.harness.servers import JARS

if TYPE_CHECKING:
    from tests.harness.servers import KafkaServer

POMS = Path(__file__).parent / "jars"
_SINGLE_BROKER = (
    "replication.factor",
    "offset-syncs.topic.replication.factor",
    "heartbeats.topic.replication.factor",
    "checkpoints.topic.replication.factor",
    "offset.storage.replication.factor",
    "status.storage.replication.factor",
    "config.storage.replication.factor",
)


def mirrored(source: str) -> str:
    """What MirrorMaker calls the registry events of a datacenter elsewhere."""
    return f"{source}.{REGISTRY_EVENTS}"


def start_mirror(folder: Path, source: str, *, there: KafkaServer, here: KafkaServer) -> Child:
    """Mirrors the registry events of the datacenter `source`, from its Kafka to ours."""
    properties = folder / "mirror.properties"
    properties.write_text(
        "\n".join(
            (
                f"clusters={source},here",
                f"{source}.bootstrap.servers={there.servers}",
                f"here.bootstrap.servers={here.servers}",
                f"{source}->here.enabled=true",
                f"{source}->here.topics={REGISTRY_EVENTS}",
                f"here->{source}.enabled=false",
                *(f"{name}=1" for name in _SINGLE_BROKER),
                "refresh.topics.interval.seconds=5",
                "emit.heartbeats.enabled=false",
                "emit.checkpoints.enabled=false",
                "",
            )
        )
    )
    child = Child(
        name="MirrorMaker",
        command=[
            *("java", "-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            *("-cp", class_path(bring_jars("mirror_maker", JARS, POMS))),
            *("org.apache.kafka.connect.mirror.MirrorMaker", str(properties)),
        ],
        log=folder / "mirror.log",
        directory=folder,
    )
    child.start()
    return child
