"""Settings of the Nacos cluster to watch and of the listener."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from runtime.settings import AdminSettings, Section

GRPC_PORT_OFFSET = 1000
"""Nacos 2.x serves gRPC on its main port plus this."""


class NacosSettings(Section):
    """Where the Nacos cluster is, and how to be let in."""

    servers: tuple[str, ...] = Field(
        default=("http://127.0.0.1:8848",), min_length=1, description="one URL for each server"
    )
    context_path: str = "/nacos"
    namespaces: tuple[str, ...] = Field(default=(), description="ids to watch; none means all")
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None

    @field_validator("servers")
    @classmethod
    def _are_urls(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            parts = urlsplit(server)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError(f"{server!r} is not a URL like http://10.0.0.1:8848")
        return servers

    def grpc_address(self, server: str) -> str:
        """Where that server speaks gRPC, as host:port."""
        parts = urlsplit(server)
        return f"{parts.hostname}:{(parts.port or 8848) + GRPC_PORT_OFFSET}"


class ListenerSettings(Section):
    """How a Nacos cluster is watched and its events are published."""

    datacenter: str = Field(default="dc1", pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")
    group: str = Field(default="shiplog-listener", description="Kafka group; the datacenter is appended")
    instance: str = Field(default="", description="unique and stable per process; empty: host name and admin port")
    subscribe_concurrency: int = Field(default=64, ge=1, le=200)
    listing_interval_s: float = Field(default=1.0, gt=0, description="how often new services are looked for")
    full_listing_every: int = Field(default=10, ge=1, description="of these looks, one lists every name")
    namespace_interval_s: float = Field(default=10.0, gt=0)
    removal_grace_s: float = Field(
        default=15.0, ge=0, description="after a reconnect, removals wait this long for a second look"
    )
    heartbeat_interval_s: float = Field(default=5.0, gt=0)
    keyframe_min_events: int = Field(default=50_000, ge=1)
    keyframe_max_age_s: float = Field(default=6 * 3600.0, gt=0)
    queue_records: int = Field(default=20_000, ge=100, description="events waiting for Kafka")
    queue_bytes: int = Field(default=128 * 1024 * 1024, ge=1024 * 1024)
    admin: AdminSettings = AdminSettings(port=9912)
