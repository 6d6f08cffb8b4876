"""Processes and commands under logins of their own, with the permissions that docs/operations.md has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.harness.processes import Processes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence

    from tests.harness.kafka_cluster import KafkaCluster
    from tests.harness.processes import Process

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
_ROW = re.compile(r"^\| (\w+) \| (Topic|Group|TransactionalId|Cluster) \| `([^`]+)` \| ([\w, ]+) \|")
_ASKED = re.compile(
    r"Principal = User:(\S+) is (Allowed|Denied) operation = (\w+) "
    r".* on resource = (\w+):LITERAL:(\S+) for request"
)
_TYPES = {
    "Topic": ResourceType.TOPIC,
    "Group": ResourceType.GROUP,
    "TransactionalId": ResourceType.TRANSACTIONAL_ID,
    "Cluster": ResourceType.BROKER,
}
IMPLIED = {"Read": "Describe", "Write": "Describe"}
"""Who may read or write something may also describe it."""


class Permission(NamedTuple):
    """One operation on what has this name, or begins with it (`*` at the end)."""

    login: str
    resource: str
    name: str
    operation: str

    def covers(self, asked: Permission) -> bool:
        """Whether it is what was asked for, or implies it."""
        same_name = asked.name.startswith(self.name[:-1]) if self.name.endswith("*") else asked.name == self.name
        return (
            (self.login, self.resource) == (asked.login, asked.resource)
            and same_name
            and asked.operation in {self.operation, IMPLIED.get(self.operation)}
        )

    def binding(self) -> AclBinding:
        prefixed = self.name.endswith("*")
        return AclBinding(
            _TYPES[self.resource],
            self.name.removesuffix("*"),
            ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL,
            f"User:{self.login}",
            "*",
            AclOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", self.operation).upper()],
            AclPermissionType.ALLOW,
        )


@dataclass(slots=True)
class LoggedInProcesses(Processes):
    """Each process, and each command, under the login that its permissions are documented for."""

    kafka: KafkaCluster

    def start(self, kind: str, **environment: str) -> Process:
        groups = {
            f"SHIPLOG_{process.upper()}__GROUP": f"shiplog-{process}-{self.group}"
            for process in ("listener", "materializer")
        }
        return Processes.start(self, kind, **self.kafka.environment(kind) | groups | environment)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        login = {"control": "operator", "audit": "auditor"}.get(arguments[0], arguments[0])
        return Processes.run(self, *arguments, **self.kafka.environment(login) | environment)

    def run_as(self, login: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The outcome under another login."""
        return self.run(*arguments, **self.kafka.environment(login))


def documented() -> list[Permission]:
    """The table's rows, an operation each."""
    rows = [row.groups() for line in OPERATIONS.read_text().splitlines() if (row := _ROW.match(line))]
    return [
        Permission(login, resource, name, operation.strip())
        for login, resource, name, operations in rows
        for operation in operations.split(",")
    ]


def grant(cluster: KafkaCluster, permissions: Iterable[Permission]) -> None:
    """Grants them."""
    admin = cluster.admin()
    for future in admin.create_acls([permission.binding() for permission in permissions]).values():
        future.result(20)


def revoke_all(cluster: KafkaCluster) -> None:
    """What super users may do is left."""
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    admin = cluster.admin()
    admin.delete_acls([everything])[everything].result(20)


def log_sizes(cluster: KafkaCluster) -> dict[int, int]:
    """How long the brokers' logs are now."""
    return {node: child.log.stat().st_size for node, child in cluster.brokers.items()}


def asked_for(
    cluster: KafkaCluster, logins: Sequence[str], since: dict[int, int]
) -> tuple[set[Permission], set[Permission]]:
    """What brokers were asked for by these logins, from this place in their logs on: granted, and refused."""
    granted, refused = set(), set()
    for node, child in cluster.brokers.items():
        for line in child.log.read_bytes()[since[node] :].decode(errors="replace").splitlines():
            found = _ASKED.search(line)
            if found is None or found[1] not in logins:
                continue
            operation = found[3].title().replace("_", "")
            permission = Permission(found[1], found[4], found[5], operation)
            (granted if found[2] == "Allowed" else refused).add(permission)
    return granted, refused
