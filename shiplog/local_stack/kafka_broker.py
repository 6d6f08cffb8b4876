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
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READY_TIMEOUT_S = 60.0


def kafka_broker(*, jars: Path, data: Path, port: int, controller_port: int, log: Path) -> Child:
    """A broker on 127.0.0.1:port that keeps its records in `data`; formatted when that is new. Not started yet.

    Raises:
        StackError: the data folder can't be formatted.
    """
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    properties = _properties(data / "records", port, controller_port)
    return broker_process(jars=jars, data=data, log=log, properties=properties, cluster_id=cluster_id)


def broker_process(
    *,
    jars: Path,
    data: Path,
    log: Path,
    properties: Mapping[str, str],
    cluster_id: str,
    format_options: Sequence[str] = (),
    heap_mb: int = 512,
    java_options: Sequence[str] = (),
) -> Child:
    """A broker with these server properties, whose `log.dirs` is `data`/records. Not started yet.

    Nodes of one cluster are formatted with one `cluster_id`; `format_options` go to `kafka-storage format`.

    Raises:
        StackError: the data folder can't be formatted.
    """
    data.mkdir(parents=True, exist_ok=True)
    file = data / "server.properties"
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    file.chmod(0o600)
    classes = class_path(jars)
    if not (data / "records" / "meta.properties").exists():
        answer = subprocess.run(
            [
                *("java", "-cp", classes, "kafka.tools.StorageTool", "format"),
                *(f"--cluster-id={cluster_id}", "-c", str(file), *format_options),
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
            *("java", f"-Xms{heap_mb // 2}m", f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", *java_options),
            *("-cp", classes, "kafka.Kafka", str(file)),
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


def _properties(records: Path, port: int, controller_port: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(records),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
    }
