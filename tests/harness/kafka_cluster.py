"""Three real brokers that keep three copies of everything; encrypted, with logins and ACLs, unless told otherwise.

Each is broker and controller. A write waits for two copies (min.insync.replicas), so one broker may be away.
"""

from __future__ import annotations

import base64
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trustme
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives import serialization

from runtime.kafka_topics import TopicKeeper
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.topics import topic_settings
from shiplog.local_stack import kafka_broker
from shiplog.local_stack.jars import bring_jars
from tests.harness.servers import JARS, PARTITIONS, free_port, topics_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shiplog.local_stack.child import Child

NODES = (1, 2, 3)
SUPER_USER = "admin"
ROLES = ("topics", "listener", "materializer", "gateway", "operator", "auditor")
"""Users without any permission until a test grants them some."""
_BROKER = "broker"
_HEAP_MB = 400
_TELL_PERMISSIONS = "-Dorg.slf4j.simpleLogger.log.kafka.authorizer.logger=debug"
"""Each permission that is asked for stands in the brokers' logs, and whether it was there."""


@dataclass(frozen=True, slots=True)
class Security:
    """SASL_SSL with SCRAM-SHA-512 for all, mutual TLS between controllers, ACLs by Kafka's own authorizer."""

    folder: Path

    def make(self) -> None:
        """A certificate authority, and a certificate for the brokers."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued = authority.issue_cert("127.0.0.1", "localhost", common_name=_BROKER)
        # Kafka reads unencrypted keys in PKCS#8 only.
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._key_store.write_bytes(key + b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self._key_store.chmod(0o600)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def _key_store(self) -> Path:
        return self.folder / "broker.pem"

    @staticmethod
    def password(user: str) -> str:
        return f"{user}-secret"

    def format_options(self) -> list[str]:
        """The users, made with the cluster: the brokers themselves log in as one of them."""
        users = (_BROKER, SUPER_USER, *ROLES)
        return [
            part
            for user in users
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={self.password(user)}]")
        ]

    def properties(self) -> dict[str, str]:
        login = f'username="{_BROKER}" password="{self.password(_BROKER)}"'
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._key_store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": (
                f"org.apache.kafka.common.security.scram.ScramLoginModule required {login};"
            ),
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{_BROKER};User:{SUPER_USER}",
        }


@dataclass(slots=True)
class KafkaCluster:
    """Three running brokers."""

    brokers: dict[int, Child]
    ports: dict[int, int]
    security: Security | None

    @property
    def servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    @property
    def settings(self) -> KafkaSettings:
        return self.settings_of(SUPER_USER)

    @property
    def topics(self) -> TopicsSettings:
        return TopicsSettings(partitions=PARTITIONS)

    def settings_of(self, user: str) -> KafkaSettings:
        """The settings of a client that logs in as this user; a cluster without logins does not care."""
        if self.security is None:
            return KafkaSettings(servers=self.servers)
        return KafkaSettings(
            servers=self.servers,
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=user,
            sasl_password=self.security.password(user),  # type: ignore[arg-type]
            ca_file=self.security.ca_file,
        )

    def environment(self, user: str = SUPER_USER) -> dict[str, str]:
        """The same as variables of a process."""
        given = {"SHIPLOG_KAFKA__SERVERS": self.servers, **topics_environment(self.topics)}
        if self.security is None:
            return given
        return given | {
            "SHIPLOG_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "SHIPLOG_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
            "SHIPLOG_KAFKA__SASL_USERNAME": user,
            "SHIPLOG_KAFKA__SASL_PASSWORD": self.security.password(user),
            "SHIPLOG_KAFKA__CA_FILE": str(self.security.ca_file),
        }

    def admin(self) -> AdminClient:
        """Keep it for as long as its futures are waited for."""
        return AdminClient(self.settings.client_config("admin", "test") | {"log_level": 0})

    def start(self) -> None:
        for child in self.brokers.values():
            child.start()

    def wait(self) -> None:
        """Until all brokers are there, and hold a copy of everything that they should."""
        admin = self.admin()
        for child in self.brokers.values():
            child.wait_until(lambda: _is_whole(admin), timeout_s=120)

    def kill(self, node: int) -> None:
        """As kill -9 does."""
        self.brokers[node].kill()

    def restart(self, node: int) -> None:
        """Starts a broker again and waits until it has caught up.

        Only its own answer says that it is back: the others take it for present until its session ends.
        """
        self.brokers[node].start()
        self.brokers[node].wait_until(lambda: self._answers(node), timeout_s=120)
        self.wait()

    def _answers(self, node: int) -> bool:
        return _is_whole(AdminClient(self._client_config(node)))

    def _client_config(self, node: int) -> dict[str, Any]:
        """Of a client that asks this broker first."""
        own = {"bootstrap.servers": f"127.0.0.1:{self.ports[node]}", "log_level": 0}
        return self.settings.client_config("admin", "test") | own

    def stop(self) -> None:
        for child in self.brokers.values():
            child.kill()

    def leader_of(self, topic: str, partition: int) -> int:
        """The node that leads a partition; -1 while there is none."""
        found: int = self.admin().list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return found

    def delete_topics(self) -> None:
        """Returns when no broker knows any of them."""
        admin = self.admin()
        wanted = [topic.name for topic in topic_settings()]
        present = [name for name in wanted if name in admin.list_topics(timeout=10).topics]
        for future in (admin.delete_topics(present) if present else {}).values():
            future.result(20)
        clients = [AdminClient(self._client_config(node)) for node in NODES]
        _until(lambda: not any(client.list_topics(timeout=10).topics.keys() & set(wanted) for client in clients))

    def ensure_topics(self) -> None:
        """Those that are missing are made."""
        keeper = TopicKeeper(self.settings, self.topics)
        _until(lambda: keeper.ensure(topic_settings()) is not None)
        self.wait()

    def renew_topics(self) -> None:
        """Every topic anew and empty."""
        self.delete_topics()
        self.ensure_topics()


def start_cluster(folder: Path, *, secure: bool = True, **properties: str) -> KafkaCluster:
    """Formats and starts three brokers; `wait` until they are ready. More server properties with `_` for `.`."""
    folder.mkdir(parents=True, exist_ok=True)
    security = Security(folder) if secure else None
    if security is not None:
        security.make()
    jars = bring_jars("kafka", JARS)
    ports = {node: free_port(1) for node in NODES}
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    more = {name.replace("_", "."): value for name, value in properties.items()}

    def broker(node: int) -> Child:
        return kafka_broker.broker_process(
            jars=jars,
            data=folder / f"kafka-{node}",
            log=folder / f"kafka-{node}.log",
            properties=_properties(node, ports, folder / f"kafka-{node}" / "records", security) | more,
            cluster_id=cluster_id,
            format_options=security.format_options() if security else (),
            heap_mb=_HEAP_MB,
            java_options=[_TELL_PERMISSIONS] if security else (),
        )

    with ThreadPoolExecutor() as pool:
        brokers = dict(zip(NODES, pool.map(broker, NODES), strict=True))
    # Children are tied to the thread that starts them: not to one of the pool.
    cluster = KafkaCluster(brokers, ports, security)
    cluster.start()
    return cluster


def _properties(node: int, ports: dict[int, int], records: Path, security: Security | None) -> dict[str, str]:
    clients, controllers = ("SASL_SSL", "SSL") if security else ("PLAINTEXT", "PLAINTEXT")
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{other}@127.0.0.1:{port + 1}" for other, port in ports.items()),
        "listeners": f"CLIENTS://127.0.0.1:{ports[node]},CONTROLLER://127.0.0.1:{ports[node] + 1}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{ports[node]}",
        "inter.broker.listener.name": "CLIENTS",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"CLIENTS:{clients},CONTROLLER:{controllers}",
        "log.dirs": str(records),
        "default.replication.factor": "3",
        "min.insync.replicas": "2",
        "offsets.topic.replication.factor": "3",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "transaction.state.log.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        "auto.create.topics.enable": "false",
        **(security.properties() if security else {}),
    }


def _is_whole(admin: AdminClient) -> bool:
    """Whether three brokers are there, and every partition has a leader and all its copies in sync."""
    try:
        found: Any = admin.list_topics(timeout=5)
    except KafkaException:
        return False
    return len(found.brokers) == len(NODES) and all(
        partition.leader >= 0 and len(partition.isrs) == len(partition.replicas)
        for topic in found.topics.values()
        for partition in topic.partitions.values()
    )


def _until(attempt: Callable[[], bool]) -> None:
    """Tries again while it fails, as Kafka does for a moment with a topic that was just deleted."""
    deadline = time.monotonic() + 30
    while True:
        try:
            if attempt():
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.2)
