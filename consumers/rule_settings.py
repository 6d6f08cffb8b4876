"""Settings of `conversion.rules`: what people want different of some services or instances."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator, model_validator

from runtime.settings import Section

ISTIO_PROTOCOLS = frozenset(
    {
        "HTTP", "HTTPS", "GRPC", "HTTP2", "MONGO", "TCP", "TLS", "UDP", "REDIS", "MYSQL", "GRPC-WEB", "HTTP_PROXY",
    }
)  # fmt: skip
"""All that a ServiceEntry's port may name."""
OF_INSTANCES = frozenset({"protocol", "labels", "tls_mode", "service_account", "weight_scale", "drop"})
"""What may be set for some instances of a service; all else is the service's."""
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,61})?[A-Za-z0-9]\Z")
_LABEL_PREFIX = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z"
)
_HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z"
)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z")


class Resolution(StrEnum):
    """Which addresses are listed, and as what."""

    STATIC = "static"
    """IP addresses only."""
    DNS = "dns"
    """IP addresses and host names, resolved by DNS."""
    MIXED = "mixed"
    """As `dns` where there is a host name, else as `static`."""


class Location(StrEnum):
    """Whether the service is part of the mesh."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class HostNames(StrEnum):
    """What becomes of instances whose address is a host name."""

    LIST = "list"
    DROP = "drop"


class RuleMatch(Section):
    """What a rule is for; patterns as those of files (`*`, `?`, `[abc]`)."""

    namespace: str = Field(default="*", description="a pattern of namespace ids; public's is `public`")
    group: str = "*"
    service: str = "*"
    datacenter: str = "*"
    metadata: dict[str, str] = Field(
        default_factory=dict, description="keys that an instance has -> patterns of their values"
    )

    @property
    def is_of_instances(self) -> bool:
        """Whether some instances of a service may match and others not."""
        return self.datacenter != "*" or bool(self.metadata)


class RulePort(Section):
    """A port of an entry; `name` is that of a further port that instances state, as `grpc`."""

    number: int = Field(ge=1, le=65535)
    protocol: str
    name: str = ""

    @field_validator("protocol")
    @classmethod
    def _is_protocol(cls, protocol: str) -> str:
        return _protocol(protocol)

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        if name and not _NAME.match(name):
            raise ValueError("must be lower-case letters, digits and `-`")
        return name


class RuleSet(Section):
    """What a rule sets; what it does not name stays as it would be."""

    host: str | None = Field(default=None, description="in the place of the host that the template gives")
    ports: tuple[RulePort, ...] | None = Field(default=None, description="all ports, the main one first")
    protocol: str | None = Field(
        default=None, description="of the main port; with metadata: these instances' vote"
    )
    addresses: tuple[str, ...] | None = Field(default=None, description="virtual IP addresses or networks")
    resolution: Resolution | None = None
    location: Location | None = None
    export_to: tuple[str, ...] | None = Field(default=None, description="Istio namespaces, `.`, `*` or `~`")
    subject_alt_names: tuple[str, ...] | None = None
    host_names: HostNames | None = None
    labels: dict[str, str] = Field(default_factory=dict, description="added to those of the endpoints")
    tls_mode: str | None = Field(default=None, description="the label security.istio.io/tlsMode: istio, disabled")
    service_account: str | None = None
    weight_scale: float | None = Field(default=None, gt=0, le=1000, allow_inf_nan=False)
    drop: bool | None = Field(
        default=None, description="the service has no entry; or the instances are not listed"
    )

    @field_validator("host")
    @classmethod
    def _is_host(cls, host: str | None) -> str | None:
        if host is not None and (not _HOST.match(host) or host.rpartition(".")[2].isdigit()):
            raise ValueError("must be a lower-case DNS name whose last label is no number")
        return host

    @field_validator("protocol")
    @classmethod
    def _is_protocol(cls, protocol: str | None) -> str | None:
        return protocol if protocol is None else _protocol(protocol)

    @field_validator("ports")
    @classmethod
    def _are_ports(cls, ports: tuple[RulePort, ...] | None) -> tuple[RulePort, ...] | None:
        if ports is not None:
            names = [port.name or port.protocol.lower().replace("_", "-") for port in ports]
            if not ports or len(set(names)) < len(names) or len({port.number for port in ports}) < len(ports):
                raise ValueError("must be at least one, each with a number and a name (or protocol) of its own")
        return ports

    @field_validator("addresses")
    @classmethod
    def _are_addresses(cls, addresses: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if addresses is None else tuple(_network(one) for one in addresses)

    @field_validator("export_to")
    @classmethod
    def _are_namespaces(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in {".", "*", "~"} and not _NAME.match(name):
                raise ValueError(f"{name!r} is neither `.`, `*`, `~` nor an Istio namespace")
        if names is not None and len(names) > 1 and not {"*", "~"}.isdisjoint(names):
            raise ValueError("`*` and `~` stand alone")
        if names is not None and len(set(names)) < len(names):
            raise ValueError("a namespace stands twice")
        return names

    @field_validator("subject_alt_names")
    @classmethod
    def _are_names(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if any(not name.strip() for name in names or ()):
            raise ValueError("must not be empty")
        return names

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            prefix, slash, name = key.rpartition("/")
            if not _LABEL_NAME.match(name) or (slash and not _LABEL_PREFIX.match(prefix)):
                raise ValueError(f"{key!r} is no label that Kubernetes takes")
            if value and not _LABEL_NAME.match(value):
                raise ValueError(f"{value!r} is no value of a label that Kubernetes takes")
        return labels

    @field_validator("tls_mode")
    @classmethod
    def _is_tls_mode(cls, mode: str | None) -> str | None:
        if mode not in {None, "istio", "disabled"}:
            raise ValueError("must be istio or disabled")
        return mode

    @field_validator("service_account")
    @classmethod
    def _is_account(cls, name: str | None) -> str | None:
        if name is not None and not _ACCOUNT.match(name):
            raise ValueError("must be the name of a Kubernetes service account")
        return name


class Rule(Section):
    """A rule of `conversion.rules`."""

    match: RuleMatch = RuleMatch()
    set: RuleSet

    @model_validator(mode="after")
    def _sets_what_it_may(self) -> Self:
        fields = self.set.model_fields_set
        if not fields:
            raise ValueError("sets nothing")
        if self.match.is_of_instances and (wrong := fields - OF_INSTANCES):
            raise ValueError(
                f"{', '.join(sorted(wrong))}: of the whole service; can't depend on a datacenter or on metadata"
            )
        if self.set.host is not None and any(c in self.match.service for c in "*?["):
            raise ValueError("host: match.service must name one service, or they would share the host")
        return self


def _protocol(protocol: str) -> str:
    if protocol.upper() not in ISTIO_PROTOCOLS:
        raise ValueError(f"must be one of {', '.join(sorted(ISTIO_PROTOCOLS))}")
    return protocol.upper()


_NOT_LISTENED_ON = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
            *("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
        ),
    )
)
"""A machine's own, and those of many."""


def can_be_listened_on(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Whether sidecars can listen on all of these addresses for a service."""
    return not any(network.version == one.version and network.overlaps(one) for one in _NOT_LISTENED_ON)


def _network(text: str) -> str:
    """An IP address, or a network of them, as Istio takes it."""
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is neither an IP address nor a network: {error}") from error
    if "%" in text or not can_be_listened_on(network):
        raise ValueError(
            f"{text!r} is no address that a sidecar can listen for: it means something on one machine only"
        )
    return str(network) if "/" in text else str(network.network_address)
