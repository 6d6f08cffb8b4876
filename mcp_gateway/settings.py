"""Settings of the gateway."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from runtime.settings import AdminSettings, Section


class DeliveriesSettings(Section):
    """The audit trail of what was sent to whom."""

    enabled: bool = True
    queue_records: int = Field(
        default=100_000, ge=1, description="so many may wait for Kafka; then there is a gap"
    )
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)


class TlsSettings(Section):
    """Certificates in PEM files; they are read again when they change. TLS 1.2 and later."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = Field(default=None, description="clients must show a certificate that it signed")

    @property
    def is_on(self) -> bool:
        """Whether streams are encrypted."""
        return self.certificate is not None


class GatewaySettings(Section):
    """Where Pilots find the gateway, and how much they may ask of it."""

    host: str = "127.0.0.1"
    port: int = Field(default=9901, ge=0, le=65535)
    allow_plaintext: bool = Field(default=False, description="listen without TLS beyond this machine")
    tls: TlsSettings = TlsSettings()
    allowed_identities: tuple[str, ...] = Field(
        default=(),
        description="SPIFFE ids, DNS names or patterns of clients' certificates; empty: whoever is signed",
    )
    max_streams: int = Field(default=5000, ge=1)
    max_connection_age_s: float = Field(
        default=3600.0,
        gt=0,
        description="then a connection is asked to go, give or take a tenth; Pilots spread out",
    )
    connection_grace_s: float = Field(default=30.0, ge=0, description="after it was asked")
    max_request_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    incremental_collections: tuple[str, ...] = Field(
        default=("*",), description="MCP collections, or patterns, of which sinks that ask for it get differences"
    )
    drain_s: float = Field(default=5.0, ge=0, description="for streams to end by themselves on SIGTERM")
    instance: str = Field(default="", description="what the audit trail calls it; empty: host name and admin port")
    deliveries: DeliveriesSettings = DeliveriesSettings()
    admin: AdminSettings = AdminSettings(port=9911)

    @model_validator(mode="after")
    def _plaintext_stays_here(self) -> Self:
        if not self.tls.is_on and not self.allow_plaintext and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable from outside, and streams are not encrypted: "
                "set gateway.tls, or gateway.allow_plaintext if the network is trusted"
            )
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls.certificate is None) != (self.tls.key is None):
            raise ValueError("tls.certificate and tls.key go together")
        if self.tls.client_ca is not None and not self.tls.is_on:
            raise ValueError("tls.client_ca needs tls.certificate and tls.key")
        if self.allowed_identities and self.tls.client_ca is None:
            raise ValueError("allowed_identities needs tls.client_ca: without it clients show no certificate")
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
