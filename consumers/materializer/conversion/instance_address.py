"""An instance's address as Istio takes it, or why it is not listed. Pure.

istiod refuses a whole ServiceEntry for one address that it can't use. And who may register could make sidecars
call what only they can reach: their own admin port on loopback, a cloud's metadata service. Such addresses are not
listed, unless `conversion.allow_local_addresses` says so.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unlisted(StrEnum):
    """Why an instance is set aside although Nacos gives it out; fit for a metric's label."""

    NO_ADDRESS = "no_address"
    """Neither an IP address nor a host name."""
    ZONE = "zone"
    """An IPv6 address with a zone (`fe80::1%eth0`): it means something on one machine only."""
    NUMERIC_NAME = "numeric_name"
    """A host name whose last label is a number: an IP address gone wrong, or an odd spelling of one."""
    LOCAL = "local_address"
    """Loopback, unspecified, link-local, multicast or broadcast, `localhost`, or a cloud's metadata service."""
    RESOLUTION = "other_resolution"
    """A host name among IP addresses, or an IP address among host names: most of the service are of one kind."""
    REPEATED = "repeated"
    """The same address and port are listed of another cluster or datacenter."""
    DROPPED = "dropped"
    """A rule of `conversion.rules` drops it."""


class Address(NamedTuple):
    """An address as it is written into an endpoint; `unlisted` is empty where it can be listed.

    `place` is equal for all spellings of an address.
    """

    text: str
    place: str
    is_name: bool
    unlisted: Unlisted | None


_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
_NUMBER = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)\Z")
_MAX_ADDRESS = 256
_LOCAL_NAMES = frozenset(
    {
        "localhost", "localhost.localdomain", "localhost4", "localhost6", "localhost4.localdomain4",
        "localhost6.localdomain6", "ip6-localhost", "ip6-loopback", "ip6-allnodes", "ip6-allrouters",
        "broadcasthost", "metadata.google.internal", "metadata", "metadata.goog",
        "metadata.tencentyun.com", "instance-data", "instance-data.ec2.internal",
    }
)  # fmt: skip
_METADATA_SERVICES = frozenset(
    map(ipaddress.ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Of clouds whose service is not at a link-local address: Alibaba, Azure, Oracle; Amazon and Google over IPv6."""
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")))
"""Whose last 32 bits are an IPv4 address: NAT64 (RFC 6052), its local prefix (RFC 8215), SIIT (RFC 2765)."""
_COMPATIBLE = ipaddress.IPv6Network("::/96")


@lru_cache(maxsize=65536)
def read_address(text: str, *, allow_local: bool) -> Address:
    """The address that an instance states."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "%" in bare and ":" in bare:
        return _refused(Unlisted.ZONE)
    if len(bare) > _MAX_ADDRESS:
        return _refused(Unlisted.NO_ADDRESS)
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return _refused(Unlisted.NO_ADDRESS) if bare is not text else _name(text, allow_local=allow_local)
    embedded = _embedded(address)
    if embedded is not None and _is_mapped(address):
        address = embedded
    if not allow_local and any(_is_local(one) for one in (address, embedded) if one is not None):
        return _refused(Unlisted.LOCAL)
    return Address(str(address), str(address), is_name=False, unlisted=None)


def _name(text: str, *, allow_local: bool) -> Address:
    name = text.removesuffix(".")
    if _HOST_NAME.match(name) is None:
        return _refused(Unlisted.NO_ADDRESS)
    place = name.lower()
    if _NUMBER.match(place.rpartition(".")[2]):
        return _refused(Unlisted.NUMERIC_NAME)
    if not allow_local and (place in _LOCAL_NAMES or place.endswith(".localhost")):
        return _refused(Unlisted.LOCAL)
    return Address(text, place, is_name=True, unlisted=None)


def _refused(why: Unlisted) -> Address:
    return Address("", "", is_name=False, unlisted=why)


def _is_mapped(address: IPAddress) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def _embedded(address: IPAddress) -> IPAddress | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, translated or 6to4."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if any(address in one for one in _TRANSLATED) or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour


def _is_local(address: IPAddress) -> bool:
    return (
        address.is_loopback
        or address.is_unspecified
        or address.is_link_local
        or address.is_multicast
        or address in _METADATA_SERVICES
        or (address.version == 4 and (int(address) >> 24 == 0 or int(address) == 0xFFFFFFFF))
    )
