"""A real Kafka broker (KRaft, one node) as a child process."""

from __future__ import annotations

import base64
import subprocess
import uuid
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shiplog.errors import StackError
from shiplog.local_stack.child import Child
from shiplog.local_stack.jars import class_path

if TYPE_CHECKING:
    from pathlib import Path

READY_TIMEOUT_S = 60.0


def kafka_broker(*, jars: Path, data: Path, port: int, controller_port: int, log: Path) -> Child:
    """A broker on 127.0.0.1:port that keeps its records in `data`; formatted when that is new. Not started yet.

    Raises:
        StackError: the data folder can't be formatted.
    """
    data.mkdir(parents=True, exist_ok=True)
    properties = data / "server.properties"
    properties.write_text(_properties(data / "records", port, controller_port))
    classes = class_path(jars)
    if not (data / "records" / "meta.properties").exists():
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        answer = subprocess.run(
            [
                *("java", "-cp", classes, "kafka.tools.StorageTool", "format"),
                *(f"--cluster-id={cluster_id}", "-c", str(properties)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise StackError(f"Kafka can't format {data}:\n{answer.stdout}{answer.stderr}")
    return Child(
        name="Kafka",
        command=[
            *("java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *(
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
                classes,
                "kafka.Kafka",
                str(properties),
            ),
        ],
        log=log,
        directory=data,
    )


def answers(port: int) -> bool:
    """Whether the broker on that port of this machine answers."""
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=2).brokers)
    except KafkaException:
        return False


def _properties(records: Path, port: int, controller_port: int) -> str:
    return "\n".join(
        (
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@127.0.0.1:{controller_port}",
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            f"log.dirs={records}",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            "auto.create.topics.enable=false",
            "",
        )
    )
