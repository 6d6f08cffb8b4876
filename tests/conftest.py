"""One Kafka and one Nacos for all tests that need them; topics, namespace and processes anew for each."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.halves import HALVES, half_of, ports_of
from tests.harness import servers
from tests.harness.kafka_cluster import KafkaCluster, start_cluster
from tests.harness.kafka_permissions import documented, grant, revoke_all
from tests.harness.load import Load
from tests.harness.pilot import Pilot
from tests.harness.processes import Processes
from tests.harness.servers import KafkaServer, NacosServer, start_kafka, start_nacos

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Servers are started some fifty times: what starts soon is worth more here than what runs fast for long.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

# A trace of a fault without the whole registry that it met.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# A busy machine is no fault of a property: time is measured in bench/, never here.
settings.register_profile("shiplog", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shiplog")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--half`: see `tests.halves`."""
    parser.addoption("--half", type=int, choices=HALVES, help="only the tests of this half")


def pytest_configure(config: pytest.Config) -> None:
    """Two halves that run at a time have servers on ports of their own."""
    servers.ports = ports_of(config.getoption("half"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests are marked by the folder that they are in; those with three brokers, which take time, come last."""
    if (half := config.getoption("half")) is not None:
        left_out = [item for item in items if half_of(item.path) != half]
        items[:] = [item for item in items if half_of(item.path) == half]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: "kafka_cluster" in getattr(item, "fixturenames", ()))
    for item in items:
        for folder in ("integration", "conformance"):
            if item.path.parent.name == folder:
                item.add_marker(folder)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    server = start_kafka(tmp_path_factory.mktemp("kafka"))
    server.wait()
    yield server
    server.child.kill()


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three brokers with SASL_SSL and ACLs; `environment()` and `settings` are those of the super user."""
    cluster = start_cluster(tmp_path_factory.mktemp("kafka-cluster"))
    cluster.wait()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def granted(kafka_cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    """The same, with the permissions that are documented for each login, and no other ones."""
    grant(kafka_cluster, documented())
    yield kafka_cluster
    revoke_all(kafka_cluster)


@pytest.fixture(scope="session")
def nacos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NacosServer]:
    server = start_nacos(tmp_path_factory.mktemp("nacos"))
    server.wait()
    yield server
    server.child.kill()


@pytest.fixture
def namespace(nacos: NacosServer) -> str:
    name = f"ns-{uuid.uuid4().hex[:8]}-t"  # a namespace that ends like a hash would get one
    nacos.create_namespace(name)
    return name


@pytest.fixture
def processes(kafka: KafkaServer, nacos: NacosServer, namespace: str, tmp_path: Path) -> Iterator[Processes]:
    kafka.renew_topics()
    started = Processes(tmp_path, kafka, nacos, [namespace], group=namespace)
    yield started
    started.stop()


@pytest.fixture
def load(nacos: NacosServer, namespace: str) -> Iterator[Load]:
    registered = Load(nacos.url, namespace)
    yield registered
    registered.close()


@pytest.fixture
def pilots() -> Iterator[Callable[..., Pilot]]:
    made = []

    def make(*addresses: str, protocol: str = "mcp", collection: str = "", node: str = "pilot") -> Pilot:
        made.append(Pilot(list(addresses), protocol, collection, node))
        return made[-1]

    yield make
    for pilot in made:
        pilot.stop()
