"""The compose files without an engine: real brokers run with their properties, as the image would write these."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from shiplog.local_stack import kafka_broker
from shiplog.local_stack.jars import bring_jars
from tests.harness.kafka_permissions import documented
from tests.harness.servers import JARS, free_port

if TYPE_CHECKING:
    from types import ModuleType

    from shiplog.local_stack.child import Child

ROOT = Path(__file__).parents[2]
HA = ROOT / "deploy" / "ha"
SECRETS_IN_CONTAINER = "/etc/kafka/secrets/"
DATA_IN_CONTAINER = "/var/lib/kafka/data"


def services(file: Path) -> dict[str, Any]:
    """The services of a compose file, with its anchors and `$$` resolved."""
    found: dict[str, Any] = yaml.safe_load(file.read_text().replace("$$", "$"))["services"]
    return found


def properties(environment: dict[str, str]) -> dict[str, str]:
    """The server properties that the image `apache/kafka` makes of variables (KafkaDockerWrapper)."""
    found = {}
    for name, value in environment.items():
        if name.startswith("KAFKA_"):
            key = name.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")
            found[key] = value
    return found


def grant_module() -> ModuleType:
    """`deploy/ha/grant.py`, which is run by its path."""
    spec = spec_from_file_location("grant", HA / "grant.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_logins_of_the_containers_have_the_documented_permissions() -> None:
    """The table and the script say the same."""
    granted = {str(binding) for binding in grant_module().bindings()}
    assert granted == {str(permission.binding()) for permission in documented()}


@pytest.mark.parametrize("file", [ROOT / "docker-compose.yml", HA / "docker-compose.yml"], ids=["default", "ha"])
def test_what_is_written_outlives_its_container(file: Path) -> None:
    """Kafka's records are on a volume, Nacos's data too, and both come back after the host was started anew."""
    for name, service in services(file).items():
        if name.startswith(("kafka", "nacos")):
            assert service["restart"] == "unless-stopped"
            volumes = [volume.split(":")[1] for volume in service["volumes"]]
            data = service["environment"]["KAFKA_LOG_DIRS"] if name.startswith("kafka") else "/home/nacos/data"
            assert data in volumes


def test_no_secret_is_committed() -> None:
    """Passwords and keys are made by `prepare.sh`, into a folder that git and images leave out."""
    assert "/deploy/ha/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy/ha" in (ROOT / ".dockerignore").read_text().splitlines()
    for service in services(HA / "docker-compose.yml").values():
        for name, value in service["environment"].items():
            assert not name.endswith(("PASSWORD", "SECRET")), name
            assert not name.endswith("PASSWORD_FILE") or value.startswith("/run/secrets/")


def test_the_properties_of_the_single_broker_are_kafkas(tmp_path: Path) -> None:
    """Kafka formats its storage with them, where the volume is."""
    given = properties(services(ROOT / "docker-compose.yml")["kafka"]["environment"])
    assert given["log.dirs"] == DATA_IN_CONTAINER
    kafka_broker.broker_process(
        jars=bring_jars("kafka", JARS),
        data=tmp_path,
        log=tmp_path / "log",
        properties=given | {"log.dirs": str(tmp_path / "records")},
        cluster_id="4L6g3nShT-eMCtK--X86sw",
    )
    assert (tmp_path / "records" / "meta.properties").exists()


def local(text: str, ports: dict[str, int], node: int) -> str:
    """A property of a container as that of a process: every address on this host, with a port of its own."""
    text = re.sub(r"(kafka-\d):(\d+)", lambda found: f"127.0.0.1:{ports[f'{found[1]}:{found[2]}']}", text)
    return re.sub(r"//:(\d+)", lambda found: f"//127.0.0.1:{ports[f'kafka-{node}:{found[1]}']}", text)


@pytest.mark.timeout(240)
def test_three_brokers_run_as_the_containers_are_set_up(tmp_path: Path) -> None:
    """Certificates and passwords from `prepare.sh`, logins from `grant.py`, topics by their own login."""
    secrets = tmp_path / "secrets"
    subprocess.run([HA / "prepare.sh", secrets], check=True, capture_output=True)
    assert secrets.stat().st_mode & 0o077 == 0
    known = services(HA / "docker-compose.yml")
    ports = {f"kafka-{node}:{port}": free_port() for node in (1, 2, 3) for port in (9092, 9093, 9094)}
    brokers: list[Child] = []
    for node in (1, 2, 3):
        service = known[f"kafka-{node}"]
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        given = {
            name: local(value, ports, node)
            if not value.startswith(SECRETS_IN_CONTAINER)
            else str(secrets / Path(mounted[value]).name)
            for name, value in properties(service["environment"]).items()
        }
        brokers.append(
            kafka_broker.broker_process(
                jars=bring_jars("kafka", JARS),
                data=tmp_path / str(node),
                log=tmp_path / f"kafka-{node}.log",
                properties=given | {"log.dirs": str(tmp_path / str(node) / "records")},
                cluster_id=service["environment"]["CLUSTER_ID"],
                heap_mb=400,
            )
        )
    try:
        for broker in brokers:
            broker.start()
        run_service(known["logins"], ports, secrets, sys.executable, str(HA / "grant.py"))
        shiplog = (sys.executable, "-m", "shiplog")
        run_service(known["topics"], ports, secrets, *shiplog, *known["topics"]["command"])
        told = run_service(known["gateway-1"], ports, secrets, *shiplog, "topics", "check", code=1)
        assert "the login lacks the permission Describe" in told
    finally:
        for broker in brokers:
            broker.kill()


def run_service(
    service: dict[str, Any], ports: dict[str, int], secrets: Path, *command: str, code: int = 0
) -> str:
    """What a command says that runs with the variables of a service, once it ends with this code."""
    given = {
        name: local(value, ports, 0).replace("/run/secrets", str(secrets))
        for name, value in service["environment"].items()
    }
    assert all((secrets / name).exists() for name in service["secrets"])
    done = subprocess.run(
        command,
        env={**os.environ, "SECRETS": str(secrets), **given},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
