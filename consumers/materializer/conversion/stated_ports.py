"""Ports and protocols as frameworks state them in an instance's metadata. Pure.

What is read, and who writes it:

- `protocol` (or the key that the settings name): Dubbo's interfaces, and people.
- `secure`: Spring Cloud, `true` for a port that speaks TLS.
- `gRPC_port`, formerly `gRPC.port`: grpc-spring, the port of the gRPC server beside the one that is registered.
- `dubbo.endpoints`: Dubbo 3's applications, a JSON list of `{"port": 20880, "protocol": "dubbo"}`.
- `dubbo.metadata-service.url-params`: Dubbo's metadata service, a JSON object with `port` and `protocol`; before
  2.7.9 one for each protocol, under its name.

JSON that is none, or says something else, is passed over: it costs nothing but itself.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.materializer.conversion.folded_instance import FurtherPort, port_name
from consumers.rule_settings import ISTIO_PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PORT = 65535
MAX_FURTHER = 8
"""Further ports that are read of one instance."""
_MAX_JSON = 4096
"""Characters; longer texts are passed over."""
_MAX_PORT_DIGITS = 10
"""Five of a port, and as many zeros before it."""

SECURE_KEY = "secure"
GRPC_KEYS = ("gRPC_port", "gRPC.port")
DUBBO_ENDPOINTS_KEY = "dubbo.endpoints"
DUBBO_METADATA_SERVICE_KEY = "dubbo.metadata-service.url-params"
FRAMEWORK_KEYS = frozenset({SECURE_KEY, *GRPC_KEYS, DUBBO_ENDPOINTS_KEY, DUBBO_METADATA_SERVICE_KEY})

_KNOWN_AS = {
    "grpcs": "TLS", "ssl": "TLS", "http1": "HTTP", "http1.1": "HTTP", "http/1.1": "HTTP", "http/2": "HTTP2",
    "ws": "HTTP", "websocket": "HTTP", "wss": "HTTPS", "hessian": "HTTP", "webservice": "HTTP", "jsonrpc": "HTTP",
    "mongodb": "MONGO", "http-proxy": "HTTP_PROXY", "grpcweb": "GRPC-WEB", "grpc_web": "GRPC-WEB",
}  # fmt: skip
"""Other names of what Istio knows."""


class StatedPort(NamedTuple):
    """A port that metadata names, with its protocol as Istio names it."""

    protocol: str
    number: int


class Stated(NamedTuple):
    """What metadata says of ports; `protocol` is empty where none is named, `logical_port` 0."""

    protocol: str = ""
    logical_port: int = 0
    is_secure: bool = False
    ports: tuple[StatedPort, ...] = ()


NOTHING_STATED = Stated()


def istio_protocol(named: str, aliases: Mapping[str, str]) -> str:
    """The protocol as Istio names it: TCP for one that is named and that nobody knows, empty where none is named.

    The keys of `aliases` are in lower case.
    """
    name = named.strip().lower()
    if not name:
        return ""
    protocol = aliases.get(name, name).upper()
    if protocol in ISTIO_PROTOCOLS:
        return protocol
    return _KNOWN_AS.get(name, "TCP")


def stated(metadata: Mapping[str, str], protocol_key: str, port_key: str, aliases: Mapping[str, str]) -> Stated:
    """What an instance's metadata says of its ports."""
    return Stated(
        protocol=istio_protocol(metadata.get(protocol_key, ""), aliases),
        logical_port=_number(metadata.get(port_key, "")),
        is_secure=metadata.get(SECURE_KEY, "").strip().lower() == "true",
        ports=tuple(_ports(metadata, aliases)),
    )


@lru_cache(maxsize=4096)
def ports_of(said: Stated, port: int, default: str) -> tuple[str, tuple[FurtherPort, ...]]:
    """The protocol of the instance's own port, and its further ports in the order of their numbers."""
    by_number: dict[int, str] = {}
    for one in said.ports:
        by_number.setdefault(one.number, one.protocol)
    own = said.protocol or by_number.pop(port, "") or ("HTTPS" if said.is_secure else default)
    by_number.pop(port, None)
    further: list[FurtherPort] = []
    taken: set[str] = set()
    for number, protocol in sorted(by_number.items())[:MAX_FURTHER]:
        name = port_name(protocol)
        key = f"{name}-{number}" if name in taken else name
        taken.add(name)
        further.append(FurtherPort(key, protocol, number))
    return own, tuple(further)


def _ports(metadata: Mapping[str, str], aliases: Mapping[str, str]) -> Iterator[StatedPort]:
    """The ports that frameworks name, the most telling first."""
    endpoints = _json(metadata.get(DUBBO_ENDPOINTS_KEY, ""))
    if isinstance(endpoints, list):
        for one in endpoints:
            yield from _port(one, aliases)
    for key in GRPC_KEYS:
        if number := _number(metadata.get(key, "")):
            yield StatedPort("GRPC", number)
    parameters = _json(metadata.get(DUBBO_METADATA_SERVICE_KEY, ""))
    if isinstance(parameters, dict):
        yield from _port(parameters, aliases)
        for protocol, one in parameters.items():
            if isinstance(one, dict):
                yield from _port({"protocol": protocol} | one, aliases)


def _port(value: Any, aliases: Mapping[str, str]) -> Iterator[StatedPort]:
    """The port of `{"port": ..., "protocol": ...}`; nothing where it is something else."""
    if not isinstance(value, dict):
        return
    named, number = value.get("protocol"), value.get("port")
    if isinstance(number, int) and not isinstance(number, bool):
        port = number if 1 <= number <= MAX_PORT else 0
    else:
        port = _number(number) if isinstance(number, str) else 0
    if port and isinstance(named, str) and (protocol := istio_protocol(named, aliases)):
        yield StatedPort(protocol, port)


def _json(text: str) -> Any:
    if not text or len(text) > _MAX_JSON:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number(text: str) -> int:
    """The port that a text names, or 0; some zeros before it are read over."""
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_PORT_DIGITS:
        return 0
    port = int(text)
    return port if 1 <= port <= MAX_PORT else 0
