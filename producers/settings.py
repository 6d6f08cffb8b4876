"""Settings of the Nacos cluster to watch and of the listener."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from runtime.settings import AdminSettings, Section

Mode = Literal["1.x", "2.x", "3.x"]
"""Which of Nacos's dialects is spoken: HTTP only, gRPC with the old HTTP paths, gRPC with the new ones."""


class NacosTlsSettings(Section):
    """How servers prove who they are, and how we do; for HTTPS and for gRPC."""

    ca_file: Path | None = Field(default=None, description="PEM; none: the system's authorities")
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = Field(default=None, description="the name in the certificate; none: that of the URL")


class NacosSettings(Section):
    """Where the Nacos cluster is, and how to be let in."""

    servers: tuple[str, ...] = Field(
        default=("http://127.0.0.1:8848",),
        min_length=1,
        description="one URL for each server, or one whose name resolves to several",
    )
    context_path: str = "/nacos"
    mode: Literal["auto", "1.x", "2.x", "3.x"] = Field(default="auto", description="auto asks the servers")
    grpc_port_offset: int = Field(default=1000, description="gRPC is served on the main port plus this")
    grpc_tls: bool | None = Field(default=None, description="none: as the URL, https means TLS")
    tls: NacosTlsSettings = NacosTlsSettings()
    namespaces: tuple[str, ...] = Field(
        default=(), description="ids to watch, or patterns like team-*; none means all; public is `public`"
    )
    config_groups: tuple[str, ...] = Field(
        default=("ISTIO",), description="groups of the config center to watch, or patterns; empty: no config items"
    )
    config_data_ids: tuple[str, ...] = Field(default=("*",), description="of these groups, the data ids")
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
            try:
                _ = parts.port
            except ValueError as error:
                raise ValueError(f"{server!r} has no port that can be: {error}") from error
            if parts.username or parts.password:
                raise ValueError(
                    "a server's URL must not hold a password: use nacos.username, nacos.password_file"
                )
        return servers


class ListenerSettings(Section):
    """How a Nacos cluster is watched and its events are published."""

    datacenter: str = Field(default="dc1", pattern=r"^[A-Za-z0-9][A-Za-z0-9-]*$")
    group: str = Field(default="shiplog-listener", description="Kafka group; the datacenter is appended")
    instance: str = Field(default="", description="unique and stable per process; empty: host name and admin port")
    services_per_connection: int = Field(
        default=5000, ge=1, description="a namespace with more services is watched over several connections"
    )
    subscribe_concurrency: int = Field(default=64, ge=1, le=200)
    listing_interval_s: float = Field(default=1.0, gt=0, description="how often new services are looked for")
    http_interval_s: float = Field(
        default=5.0, gt=0, description="the same on 1.x, where each look lists everything"
    )
    full_listing_every: int = Field(default=10, ge=1, description="of these looks, one lists every name")
    namespace_interval_s: float = Field(default=10.0, gt=0)
    sweep_interval_s: float = Field(
        default=60.0, gt=0, description="in this time, spread out, every service's true state is read once"
    )
    config_interval_s: float = Field(default=10.0, gt=0, description="how often new config items are looked for")
    removal_grace_s: float = Field(
        default=30.0, ge=0, description="after a reconnect, removals wait this long for a second look"
    )
    heartbeat_interval_s: float = Field(default=5.0, gt=0)
    keyframe_min_events: int = Field(default=50_000, ge=1)
    keyframe_max_age_s: float = Field(default=6 * 3600.0, gt=0)
    queue_records: int = Field(default=20_000, ge=100, description="events waiting for Kafka")
    queue_bytes: int = Field(default=128 * 1024 * 1024, ge=1024 * 1024)
    admin: AdminSettings = AdminSettings(port=9912)
