"""Settings of the gateway."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from mcp_gateway.resources import Shape
from mcp_gateway.servers.kept_bytes import MAX_BYTES, MAX_BYTES_OF_PEER
from mcp_gateway.views.rules import Rule, Rules
from mcp_gateway.views.view import Selection
from mcp_gateway.views.views import Views
from runtime.settings import AdminSettings, Section


class DeliveriesSettings(Section):
    """The audit trail of what was sent to whom."""

    enabled: bool = True
    queue_records: int = Field(
        default=100_000, ge=1, description="so many may wait for Kafka; then there is a gap"
    )
    queue_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    mark_interval_s: float = Field(
        default=5.0, gt=0, description="how often it is recorded that the trail is whole so far"
    )


class TlsSettings(Section):
    """Certificates in PEM files; they are read again when they change. TLS 1.2 and later."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = Field(default=None, description="clients must show a certificate that it signed")

    @property
    def is_on(self) -> bool:
        """Whether streams are encrypted."""
        return self.certificate is not None


class ViewSettings(Section):
    """What a group of Pilots sees; patterns are those of file names (`*`, `?`)."""

    namespaces: tuple[str, ...] = Field(default=("*",), description="Nacos namespaces, or patterns")
    datacenters: tuple[str, ...] = Field(default=("*",), description="whose endpoints are shown, or patterns")
    collections: tuple[str, ...] = Field(default=("*",), description="MCP collections, or patterns")
    istio_namespace: str = Field(default="", description="all resources are shown in it; empty: in their own")
    omit_empty_entries: bool = Field(
        default=False,
        description="leave services' entries out while they have no endpoints: Pilots until 1.4 refuse such",
    )
    is_registry: bool = Field(
        default=False,
        description="services are shown as synthetic entries only: for Pilots 1.4 and 1.5 that name the gateway "
        "under SERVICE_REGISTRY, and would have each service twice",
    )


class ViewRuleSettings(Section):
    """Whom a view is meant for: one of the identities must match, and every fact of the node."""

    view: str
    identities: tuple[str, ...] = Field(default=(), description="SPIFFE ids, DNS names or patterns")
    node: dict[str, str] = Field(
        default_factory=dict,
        description="patterns by name: an annotation or metadata of the node, `id`, `cluster`; proves nothing",
    )

    @model_validator(mode="after")
    def _means_somebody(self) -> Self:
        if not self.identities and not self.node:
            raise ValueError("a rule names identities or node facts; for everybody else there is default_view")
        return self


class SinkTlsSettings(Section):
    """How a sink is dialled with TLS: its authority, and our certificate where it wants one."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = Field(default="", description="in its certificate, where that is not its address")

    @property
    def is_on(self) -> bool:
        """Whether the stream is encrypted."""
        return self.ca is not None


class SinkSettings(Section):
    """A Pilot that waits for the gateway to dial it."""

    address: str = Field(description="host:port")
    identity: str = Field(default="", description="who it counts as where views are chosen; empty: its address")
    tls: SinkTlsSettings = SinkTlsSettings()


class LimitSettings(Section):
    """How much one peer, or all together, may ask of the gateway."""

    max_streams: int = Field(default=5000, ge=1)
    max_streams_per_identity: int = Field(
        default=2500, ge=1, description="or per address, of peers without a certificate"
    )
    max_streams_per_connection: int = Field(default=100, ge=1)
    max_connections: int = Field(default=10_000, ge=1)
    max_subscription_bytes_per_identity: int = Field(
        default=MAX_BYTES_OF_PEER,
        ge=1,
        description="kept of names and versions that clients subscribe to or state; or per address",
    )
    max_subscription_bytes: int = Field(default=MAX_BYTES, ge=1, description="the same, of all clients together")
    streams_per_s: float = Field(default=200.0, gt=0, description="that are let in; others wait in line")
    max_wait_s: float = Field(default=30.0, ge=0, description="in line; then they are refused")
    requests_per_s: float = Field(default=200.0, gt=0, description="read from one stream; others wait")
    max_request_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    max_header_bytes: int = Field(default=8192, ge=1024)
    handshake_s: float = Field(default=20.0, gt=0, description="for a connection to speak HTTP/2")
    first_request_s: float = Field(default=30.0, gt=0, description="for a stream to ask for something")
    stalled_s: float = Field(default=120.0, gt=0, description="for a push to be read, and to be answered")
    max_in_flight_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1, description="of large pushes being sent; others wait in line"
    )
    max_message_bytes: int = Field(
        default=512 * 1024 * 1024, ge=1, description="of encoded pushes that are kept for other streams"
    )
    in_the_way_s: float = Field(
        default=20.0, gt=0, description="for a large push to be read while others wait in line"
    )


class GatewaySettings(Section):
    """Where Pilots find the gateway, what they see, and how much they may ask of it."""

    host: str = "127.0.0.1"
    port: int = Field(default=9901, ge=0, le=65535)
    allow_plaintext: bool = Field(default=False, description="listen without TLS beyond this machine")
    tls: TlsSettings = TlsSettings()
    allowed_identities: tuple[str, ...] = Field(
        default=(),
        description="SPIFFE ids, DNS names or patterns of clients' certificates; empty: whoever is signed",
    )
    views: dict[str, ViewSettings] = Field(
        default_factory=dict, description="by name; `default` shows everything unless it is set here"
    )
    view_rules: tuple[ViewRuleSettings, ...] = ()
    default_view: str = Field(default="default", description="who matches no rule; empty: is refused")
    sinks: tuple[SinkSettings, ...] = Field(default=(), description="Pilots that the gateway dials")
    limits: LimitSettings = LimitSettings()
    keepalive_s: float = Field(default=60.0, ge=1, description="between pings to silent peers")
    max_connection_age_s: float = Field(
        default=3600.0,
        gt=0,
        description="then a connection is asked to go, give or take a tenth; Pilots spread out",
    )
    connection_grace_s: float = Field(default=30.0, ge=0, description="after it was asked")
    incremental_collections: tuple[str, ...] = Field(
        default=("*",), description="MCP collections, or patterns, of which sinks that ask for it get differences"
    )
    also_answered: tuple[str, ...] = Field(
        default=(),
        description="MCP collections and type URLs, or patterns, that are not Istio's and are answered empty; "
        "others are refused",
    )
    drain_s: float = Field(default=5.0, ge=0, description="on SIGTERM, over which streams are told to go")
    stale_after_s: float = Field(
        default=30.0, gt=0, description="without an answer from Kafka; then /readyz says that the data is stale"
    )
    start_patience_s: float = Field(
        default=10.0,
        ge=0,
        description="a starting gateway waits for Kafka (if there is a cache), and for namespaces at fault",
    )
    serve_without: tuple[str, ...] = Field(
        default=(), description="namespaces, or patterns, that answers may lack while no good snapshot is known"
    )
    serve_without_after_s: float = Field(
        default=300.0,
        gt=0,
        description="after its start a gateway answers without namespaces of which no good snapshot is known; "
        "until then Pilots whose view shows one are refused; .inf: they are refused until it is good",
    )
    reread_max_s: float = Field(
        default=300.0, ge=1, description="the longest pause between readings of a partition at fault"
    )
    cache_dir: Path | None = Field(
        default=None, description="a folder of this gateway alone, for the last snapshots; empty: none are kept"
    )
    cache_interval_s: float = Field(default=10.0, gt=0, description="between two looks for changed snapshots")
    cache_max_bytes: int = Field(default=4 * 1024**3, ge=1024 * 1024, description="of all snapshots on disk")
    instance: str = Field(default="", description="what the audit trail calls it; empty: host name and admin port")
    deliveries: DeliveriesSettings = DeliveriesSettings()
    admin: AdminSettings = AdminSettings(port=9911)

    def make_views(self) -> Views:
        """The views and the rules that choose among them."""
        selections = {"default": Selection()} | {
            name: Selection(
                namespaces=view.namespaces,
                collections=view.collections,
                shape=Shape(
                    datacenters=view.datacenters,
                    istio_namespace=view.istio_namespace,
                    omits_empty=view.omit_empty_entries,
                ),
                is_registry=view.is_registry,
            )
            for name, view in self.views.items()
        }
        rules = tuple(Rule(view=rule.view, identities=rule.identities, node=rule.node) for rule in self.view_rules)
        rules_of = Rules(rules=rules, default=self.default_view)
        return Views(selections, rules_of, max_message_bytes=self.limits.max_message_bytes)

    @model_validator(mode="after")
    def _rules_name_views(self) -> Self:
        known = {"default", *self.views}
        named = {rule.view for rule in self.view_rules} | ({self.default_view} if self.default_view else set())
        if unknown := sorted(named - known):
            raise ValueError(f"no such view: {', '.join(unknown)}; gateway.views has {', '.join(sorted(known))}")
        if self.tls.client_ca is None and not self.sinks and any(rule.identities for rule in self.view_rules):
            raise ValueError("rules by identity need tls.client_ca: without it clients show no certificate")
        return self

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
