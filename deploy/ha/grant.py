"""Makes the logins of deploy/ha, with the permissions that docs/operations.md has them ("Permissions in Kafka").

Run by the service `logins` in the image of shiplog, as the user `admin`, which the certificate of that name stands
for. What is there already is made again, with the same outcome.
"""

from __future__ import annotations

import os
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

ITERATIONS = 8192
TOPIC, GROUP, TRANSACTIONAL_ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID

PERMISSIONS = {
    "topics": [(TOPIC, "shiplog.*", "CREATE DESCRIBE DESCRIBE_CONFIGS")],
    "listener": [
        (TOPIC, "shiplog.registry.events", "READ WRITE DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.quarantine", "WRITE DESCRIBE_CONFIGS"),
        (GROUP, "shiplog-listener-*", "READ"),
    ],
    "materializer": [
        (TOPIC, "shiplog.registry.events", "READ DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.control.events", "READ DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.snapshots", "READ WRITE DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.snapshot-history", "READ WRITE DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.quarantine", "WRITE DESCRIBE_CONFIGS"),
        (GROUP, "shiplog-materializer*", "READ"),
        (TRANSACTIONAL_ID, "shiplog-materializer-*", "WRITE"),
    ],
    "gateway": [
        (TOPIC, "shiplog.snapshots", "READ DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.deliveries", "WRITE DESCRIBE_CONFIGS"),
        (TOPIC, "shiplog.quarantine", "WRITE DESCRIBE_CONFIGS"),
        (GROUP, "shiplog-gateway-*", "DESCRIBE"),
    ],
    "operator": [
        (TOPIC, "shiplog.control.events", "WRITE"),
        (TOPIC, "shiplog.snapshots", "READ"),
        (TOPIC, "shiplog.snapshot-history", "READ"),
        (TOPIC, "shiplog.quarantine", "READ"),
        (GROUP, "shiplog-control*", "DESCRIBE"),
    ],
    "auditor": [
        (TOPIC, "shiplog.registry.events", "READ"),
        (TOPIC, "shiplog.control.events", "READ"),
        (TOPIC, "shiplog.snapshots", "READ"),
        (TOPIC, "shiplog.snapshot-history", "READ"),
        (TOPIC, "shiplog.deliveries", "READ"),
        (GROUP, "shiplog-audit*", "DESCRIBE"),
    ],
}


def bindings() -> list[AclBinding]:
    """The permissions as Kafka takes them; a name that ends in `*` is a prefix."""
    return [
        AclBinding(
            kind,
            name.removesuffix("*"),
            ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL,
            f"User:{login}",
            "*",
            AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for login, permissions in PERMISSIONS.items()
        for kind, name, operations in permissions
        for operation in operations.split()
    ]


def main() -> None:
    """Waits until Kafka answers, at most for a minute a request."""
    secrets = Path(os.environ.get("SECRETS", "/run/secrets"))
    admin = AdminClient(
        {
            "bootstrap.servers": os.environ["KAFKA_BROKERS"],
            "security.protocol": "SSL",
            "ssl.ca.location": str(secrets / "ca.pem"),
            "ssl.certificate.location": str(secrets / "admin.crt"),
            "ssl.key.location": str(secrets / "admin.key"),
        }
    )
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    logins = [
        UserScramCredentialUpsertion(login, how, (secrets / f"{login}.password").read_bytes().strip())
        for login in PERMISSIONS
    ]
    for future in admin.alter_user_scram_credentials(logins, request_timeout=60).values():
        future.result(61)
    wanted = bindings()
    for future in admin.create_acls(wanted, request_timeout=60).values():
        future.result(61)
    print(f"{len(logins)} logins, {len(wanted)} permissions")


if __name__ == "__main__":
    main()
