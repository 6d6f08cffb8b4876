"""Virtual addresses for services that are not told apart by what travels, as HTTP is by its host. Pure.

Two TCP services on one port would share a listener in a sidecar; each with an address of its own has its own. An
address is one of the set range, by a hash of the host: it is the same on every machine and in every replay.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from ipaddress import ip_network
from typing import TYPE_CHECKING

from consumers.settings import AddressesFor
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry
from schemas.records import resource_version

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from consumers.settings import AddressSettings
    from schemas.records import ResourceRecord

MAX_TRIES = 128
"""Addresses that are tried for a host: from about nine tenths of the range taken on, some find none."""
_TOLD_APART = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})
_KEPT_FREE = 4
"""A range of so many addresses or more gives neither its first nor its last: they may mean the network."""


def wants_address(settings: AddressSettings, record: ResourceRecord) -> bool:
    """Whether a service with such a head gets an address."""
    match settings.given_to:
        case AddressesFor.OFF:
            return False
        case AddressesFor.TCP:
            return _has_other_than_http(record.head)
        case AddressesFor.ALL:
            return True


def candidate(settings: AddressSettings, host: str, number: int) -> str | None:
    """The address that is tried for a host at the attempt of that number; None when it was tried enough."""
    if number >= MAX_TRIES:
        return None
    first, size = _range(settings.range)
    text = host if number == 0 else f"{host}#{number}"
    at = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) % size
    return str(first + at)


def with_address(record: ResourceRecord, address: str) -> ResourceRecord:
    """The record of the service with that address."""
    head = _addressed(record.head, address)
    version = resource_version(
        type_url=record.type_url,
        labels=record.labels,
        annotations=record.annotations,
        head=head,
        parts=record.parts,
    )
    return replace(record, head=head, version=version)


@lru_cache(maxsize=16)
def _range(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    network = ip_network(text)
    kept = 1 if network.num_addresses >= _KEPT_FREE else 0
    return network.network_address + kept, network.num_addresses - 2 * kept


@lru_cache(maxsize=100_000)
def _has_other_than_http(head: bytes) -> bool:
    return any(port.protocol.upper() not in _TOLD_APART for port in ServiceEntry.FromString(head).ports)


@lru_cache(maxsize=100_000)
def _addressed(head: bytes, address: str) -> bytes:
    entry = ServiceEntry.FromString(head)
    entry.addresses.append(address)
    return entry.SerializeToString(deterministic=True)
