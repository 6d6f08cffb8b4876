"""Settings of the materializer and of the conversion to Istio's resources."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from ipaddress import ip_network
from typing import Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from consumers.rule_settings import ISTIO_PROTOCOLS, Rule, can_be_listened_on
from runtime.settings import AdminSettings, Section
from schemas.topics import REGISTRY_EVENTS

_PLACEHOLDERS = {"service": "s", "group": "g", "namespace": "n"}


PROTOCOL_ALIASES = {
    "dubbo": "TCP",
    "tri": "GRPC",
    "triple": "GRPC",
    "rest": "HTTP",
    "h2": "HTTP2",
    "h2c": "HTTP2",
}
"""What is understood unless settings say otherwise."""


class DatacenterSettings(Section):
    """What a datacenter adds to its endpoints where their metadata says nothing."""

    locality: str = ""
    network: str = ""


class AddressesFor(StrEnum):
    """Which services get a virtual address."""

    OFF = "off"
    TCP = "tcp"
    ALL = "all"


_NOT_FOR_SERVICES = tuple(map(ip_network, ("240.240.0.0/16", "2001:2::/48")))
"""What Istio itself hands out to service entries without addresses."""
_SMALLEST_RANGE = 2


class AddressSettings(Section):
    """Virtual addresses of services; set as `for` and `range`."""

    model_config = ConfigDict(populate_by_name=True)  # an audit's bundle holds the fields' names
    given_to: AddressesFor = Field(
        default=AddressesFor.TCP,
        alias="for",
        description="off; tcp: services with a port that is not HTTP, HTTP2, GRPC, GRPC-WEB or HTTP_PROXY; all",
    )
    range: str = Field(
        default="240.241.0.0/16", description="a network of which each such service gets an address"
    )

    @field_validator("range")
    @classmethod
    def _is_range(cls, text: str) -> str:
        network = ip_network(text)  # its error says what is wrong
        if any(network.version == one.version and network.overlaps(one) for one in _NOT_FOR_SERVICES):
            raise ValueError(f"meets {' or '.join(map(str, _NOT_FOR_SERVICES))}, which Istio hands out itself")
        if not can_be_listened_on(network):
            raise ValueError(
                "must be addresses that sidecars may listen on: none of a machine's own, no multicast"
            )
        if network.num_addresses < _SMALLEST_RANGE:
            raise ValueError("must have more than one address")
        return str(network)


class ConversionSettings(Section):
    """How a service becomes a ServiceEntry. The defaults give the names of Nacos's own istio module."""

    host: str = "{service}.{group}.{namespace}.nacos"
    name: str = "{service}.{group}.{namespace}"
    istio_namespace: str = "{namespace}"
    protocol: str = "HTTP"
    protocol_key: str = Field(default="protocol", description="metadata key that names the protocol")
    port_key: str = Field(default="service-port", description="metadata key that names the logical port")
    protocol_aliases: dict[str, str] = Field(
        default=PROTOCOL_ALIASES,
        description="protocols that Istio does not know -> those that it does; the default ones hold besides",
    )
    region_key: str = "region"
    zone_key: str = "zone"
    network_key: str = "network"
    datacenters: dict[str, DatacenterSettings] = Field(default_factory=dict)
    allow_local_addresses: bool = Field(
        default=False,
        description="list loopback, unspecified, link-local and multicast addresses, localhost and clouds' "
        "metadata services too: only where nobody registers who may not reach them",
    )
    addresses: AddressSettings = AddressSettings()
    empty_grace_s: float = Field(
        default=600.0,
        ge=0,
        le=86_400,
        description="so long an entry stays, with its head and no endpoints, after its last instance went; 0: not",
    )
    rules: tuple[Rule, ...] = Field(
        default=(), description="what is to be different of some services or instances; later ones win"
    )
    config_groups: tuple[str, ...] = Field(
        default=("ISTIO",), description="groups, or patterns, whose config items hold Istio's YAML"
    )

    @cached_property
    def endpoint_keys(self) -> frozenset[str]:
        """The metadata keys that mean more than a label."""
        return frozenset({self.protocol_key, self.port_key, self.region_key, self.zone_key, self.network_key})

    @field_validator("host", "name", "istio_namespace")
    @classmethod
    def _is_template(cls, template: str) -> str:
        try:
            template.format(**_PLACEHOLDERS)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may hold {service}, {group} and {namespace} only") from error
        return template

    @field_validator("protocol_aliases")
    @classmethod
    def _mean_protocols(cls, aliases: dict[str, str]) -> dict[str, str]:
        for name, protocol in aliases.items():
            if protocol.upper() not in ISTIO_PROTOCOLS:
                raise ValueError(f"{name}: {protocol} is none of {', '.join(sorted(ISTIO_PROTOCOLS))}")
        return aliases

    @field_validator("protocol")
    @classmethod
    def _is_protocol(cls, protocol: str) -> str:
        if protocol.upper() not in ISTIO_PROTOCOLS:
            raise ValueError(f"must be one of {', '.join(sorted(ISTIO_PROTOCOLS))}")
        return protocol.upper()


class GuardMode(StrEnum):
    """What the guard does about a drop."""

    OFF = "off"
    OBSERVE = "observe"
    ENFORCE = "enforce"


class ScopeSettings(Section):
    """When a scope of the guard is held, and for how long."""

    mode: GuardMode = GuardMode.ENFORCE
    max_share: float = Field(
        default=0.5, gt=0, lt=1, description="of the peak; more than this lost within the window is held"
    )
    min_size: int = Field(default=50, ge=1, description="a scope with fewer endpoints at its peak is left alone")
    window_s: float = Field(default=600.0, gt=0)
    deadline_s: float = Field(default=1800.0, gt=0, description="so long endpoints are kept if they don't return")


class ServiceScopeSettings(ScopeSettings):
    """A service's: deployments take away a good part of it in the ordinary course of things."""

    max_share: float = Field(default=0.7, gt=0, lt=1)
    min_size: int = Field(default=10, ge=1)
    deadline_s: float = Field(default=600.0, gt=0)


class DatacenterScopeSettings(ScopeSettings):
    """A datacenter's: long enough for people to look."""

    min_size: int = Field(default=100, ge=1)
    deadline_s: float = Field(default=3600.0, gt=0)


class HeadSettings(Section):
    """When a change of a service's ports or protocol is held, and for how long."""

    mode: GuardMode = GuardMode.ENFORCE
    min_size: int = Field(default=10, ge=1, description="a service with fewer endpoints changes its head at once")
    delay_s: float = Field(
        default=60.0, gt=0, description="so long its instances must vote for another head before it takes effect"
    )


class GuardSettings(Section):
    """The blast-radius guard: each service, each namespace, each datacenter (within a partition), and heads."""

    head: HeadSettings = HeadSettings()
    service: ServiceScopeSettings = ServiceScopeSettings()
    namespace: ScopeSettings = ScopeSettings()
    datacenter: DatacenterScopeSettings = DatacenterScopeSettings()

    @property
    def is_on(self) -> bool:
        """Whether any scope is looked at."""
        return any(s.mode is not GuardMode.OFF for s in (self.service, self.namespace, self.datacenter))

    @property
    def longest_window_us(self) -> float:
        """How far back the guard looks, in microseconds; 0 when it is off."""
        scopes = (self.service, self.namespace, self.datacenter)
        return max((s.window_s for s in scopes if s.mode is not GuardMode.OFF), default=0.0) * 1e6


class ExpectedSettings(Section):
    """Whom the first snapshot of a namespace waits for."""

    datacenters: tuple[str, ...] = Field(default=(), description="each states a namespace before it is published")
    grace_s: float = Field(default=60.0, ge=0, description="so long it waits, then it is published without them")


class MaterializerSettings(Section):
    """How the log is folded and published."""

    group: str = "shiplog-materializer"
    event_topics: tuple[str, ...] = Field(default=(REGISTRY_EVENTS,), min_length=1)
    instance: str = Field(default="", description="unique and stable per process; empty: host name and admin port")
    guard: GuardSettings = GuardSettings()
    expected: ExpectedSettings = ExpectedSettings()
    max_batch: int = Field(
        default=20_000, ge=1, description="events folded before they are published, when so many wait"
    )
    max_poll_s: float = Field(
        default=300.0,
        ge=6,
        description="between two reads; a process that is busy for longer loses its partitions",
    )
    idle_commit_s: float = Field(default=10.0, gt=0, description="how often offsets move when nothing changes")
    session_timeout_s: float = Field(
        default=20.0,
        ge=6,
        description="after so long without a sign of life partitions go to another process; longer than Kafka "
        "takes to replace a broker, else each such death costs every materializer a recovery",
    )
    transaction_timeout_s: float = Field(
        default=30.0,
        ge=2,
        description="so long Kafka waits for the end of a transaction; longer than it takes to replace a broker",
    )
    admin: AdminSettings = AdminSettings(port=9913)

    @model_validator(mode="after")
    def _polls_within_sessions(self) -> Self:
        if self.max_poll_s < self.session_timeout_s:
            raise ValueError("max_poll_s must not be less than session_timeout_s")
        return self
