"""A Kafka broker and a Nacos server on free ports, as children of the test run."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import httpx
import structlog
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from runtime.kafka_topics import TopicKeeper
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.topics import topic_settings
from shiplog.local_stack import kafka_broker, nacos_server
from shiplog.local_stack.jars import bring_jars
from tests.halves import ports_of

if TYPE_CHECKING:
    from shiplog.local_stack.child import Child

JARS = Path(__file__).parents[2] / ".local" / "jars"
PARTITIONS = 4
PUSH_DELAY_S = 1.5

_log = structlog.get_logger()

ports = ports_of(None)
"""Those to choose from."""
_given: set[int] = set()


def free_port(*offsets: int) -> int:
    """A port that is free, as are those at the offsets from it.

    None is given twice: whoever was given one may not listen on it yet, or be about to start again.
    """
    for _ in range(200):
        port = random.choice(ports)
        wanted = {port + offset for offset in (0, *offsets)}
        if not wanted & _given and all(map(_is_free, wanted)):
            _given.update(wanted)
            return port
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Kafka(Protocol):
    """One broker or three."""

    @property
    def servers(self) -> str: ...

    @property
    def settings(self) -> KafkaSettings:
        """Of a client that may do everything."""

    @property
    def topics(self) -> TopicsSettings: ...

    def environment(self) -> dict[str, str]:
        """The same, and those of topics, as variables of a process."""

    def renew_topics(self) -> None: ...


def topics_environment(topics: TopicsSettings) -> dict[str, str]:
    """How topics are made, as variables of a process."""
    return {
        "SHIPLOG_TOPICS__PARTITIONS": str(topics.partitions),
        "SHIPLOG_TOPICS__REPLICATION_FACTOR": str(topics.replication_factor),
        "SHIPLOG_TOPICS__MIN_INSYNC_REPLICAS": str(topics.min_insync_replicas),
    }


@dataclass(slots=True)
class KafkaServer:
    """A running broker."""

    child: Child
    port: int

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self) -> KafkaSettings:
        return KafkaSettings(servers=self.servers)

    @property
    def topics(self) -> TopicsSettings:
        return TopicsSettings(partitions=PARTITIONS, replication_factor=1, min_insync_replicas=1)

    def environment(self) -> dict[str, str]:
        return {"SHIPLOG_KAFKA__SERVERS": self.servers, **topics_environment(self.topics)}

    def wait(self) -> None:
        self.child.wait_until(lambda: kafka_broker.answers(self.port), timeout_s=60)

    def renew_topics(self) -> None:
        """Every topic anew and empty."""
        admin = AdminClient({"bootstrap.servers": self.servers})
        wanted = topic_settings()
        present = [t.name for t in wanted if t.name in admin.list_topics(timeout=10).topics]
        for future in (admin.delete_topics(present) if present else {}).values():
            future.result(20)
        keeper = TopicKeeper(self.settings, self.topics)
        deadline = time.monotonic() + 20
        while True:
            try:
                keeper.ensure(wanted)
            except (KafkaException, Exception):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
            else:
                return


@dataclass(slots=True)
class NacosServer:
    """A running standalone server."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        self.child.wait_until(lambda: nacos_server.answers(self.url), timeout_s=120)

    def members_up(self) -> int:
        """How many members of its cluster it says are up."""
        try:
            answer = httpx.get(f"{self.url}/nacos/v1/core/cluster/nodes", timeout=2)
            return sum(member["state"] == "UP" for member in answer.json()["data"])
        except (httpx.HTTPError, ValueError, KeyError):
            return 0

    def create_namespace(self, namespace: str) -> None:
        form = {"customNamespaceId": namespace, "namespaceName": namespace, "namespaceDesc": ""}
        httpx.post(f"{self.url}/nacos/v1/console/namespaces", data=form, timeout=10).raise_for_status()

    def write_item(self, namespace: str, data_id: str, text: str | None, group: str = "ISTIO") -> None:
        """A config item's text; None deletes it."""
        item = {"tenant": namespace, "dataId": data_id, "group": group}
        url = f"{self.url}/nacos/v1/cs/configs"
        if text is None:
            httpx.delete(url, params=item, timeout=10).raise_for_status()
        else:
            httpx.post(url, data={**item, "content": text, "type": "yaml"}, timeout=10).raise_for_status()

    def hosts(self, namespace: str, services: list[tuple[str, str]]) -> dict[tuple[str, str], list[dict]]:
        """What Nacos itself says of each (group, service): its instances.

        Nacos answers from what it last prepared for its subscribers, so changes show with its push delay.
        """
        time.sleep(PUSH_DELAY_S)
        return asyncio.run(self._hosts(namespace, services))

    async def _hosts(self, namespace: str, services: list[tuple[str, str]]) -> dict[tuple[str, str], list[dict]]:
        waiting = iter(services)
        found = {}
        async with httpx.AsyncClient(timeout=30) as client:

            async def worker() -> None:
                for group, service in waiting:
                    params = {"serviceName": f"{group}@@{service}", "namespaceId": namespace}
                    answer = await client.get(f"{self.url}/nacos/v1/ns/instance/list", params=params)
                    found[group, service] = answer.raise_for_status().json()["hosts"]

            await asyncio.gather(*(worker() for _ in range(16)))
        return found


def start_nacos_cluster(folder: Path) -> list[NacosServer]:
    """Three nodes that know each other; ready when each says that all are up."""
    ports: list[int] = []
    while len(ports) < 3:
        port = free_port(1000, 1001, -1000)
        if all(abs(port - other) > 2 and abs(abs(port - other) - 1000) > 2 for other in ports):
            ports.append(port)
    nodes = []
    for port in ports:
        child = nacos_server.nacos_server(
            jars=bring_jars("nacos", JARS),
            home=folder / f"nacos-{port}",
            port=port,
            log=folder / f"nacos-{port}.log",
            members=ports,
        )
        nodes.append(NacosServer(child, port))
    start_together(nodes)
    wait_for_cluster(nodes)
    return nodes


def start_together(nodes: list[NacosServer]) -> None:
    """Starts all nodes of a cluster, each once the one before has opened its database.

    A node gives that 10 s and ends when it takes longer, as it does where three of them start on two busy cores.
    """
    for node in nodes:
        assert node.child.directory is not None
        told = node.child.directory / "derby.log"
        told.unlink(missing_ok=True)
        node.child.start()
        node.child.wait_until(
            lambda told=told: told.exists() and "Database Class Loader started" in told.read_text(), timeout_s=60
        )


def wait_for_cluster(nodes: list[NacosServer]) -> None:
    """Waits until each node says that all are up; one that ended by itself is started again, as supervisors do.

    A node with embedded storage that was killed now and then ends with code 1 at its next start: it reads its
    config items before its Raft group has found a leader.
    """
    starts_left = dict.fromkeys((node.port for node in nodes), 2)

    def all_up(asked: NacosServer) -> bool:
        for node in nodes:
            if not node.child.running and starts_left[node.port]:
                starts_left[node.port] -= 1
                _log.warning("nacos ended at its start", port=node.port, end_of_log=node.child.log_tail())
                node.child.start()
        return asked.members_up() == len(nodes)

    for node in nodes:
        node.child.wait_until(lambda node=node: all_up(node), timeout_s=180)


def start_kafka(folder: Path, port: int = 0) -> KafkaServer:
    port = port or free_port(1)
    child = kafka_broker.kafka_broker(
        jars=bring_jars("kafka", JARS),
        data=folder / "kafka",
        port=port,
        controller_port=port + 1,
        log=folder / "kafka.log",
    )
    child.start()
    return KafkaServer(child, port)


def start_nacos(folder: Path, *, istio_module: bool = False, wants_login: bool = False) -> NacosServer:
    port = free_port(1000, 1001, -1000)
    child = nacos_server.nacos_server(
        jars=bring_jars("nacos", JARS),
        home=folder / "nacos",
        port=port,
        log=folder / "nacos.log",
        istio_module=istio_module,
        wants_login=wants_login,
    )
    child.start()
    return NacosServer(child, port)
