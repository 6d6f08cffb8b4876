"""Names, addresses and ports as Istio reads them: what is wrong with one, or None. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING

from consumers.materializer.conversion.validation.findings import Finding, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.materializer.conversion.validation.findings import Findings, Path

_LABEL_TEXT = "[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_LABEL = re.compile(_LABEL_TEXT)
_WILDCARD = re.compile(rf"\*|(?:\*-?)?{_LABEL_TEXT}")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_KEY = re.compile(rf"(?:({_LABEL_TEXT}(?:\.{_LABEL_TEXT})*)/)?((?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])")
_VALUE = re.compile("(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_PREFIX_LENGTH = re.compile("0|[1-9][0-9]{0,2}")
_LONGEST_LABEL = 63
_LONGEST_NAME = 255
_LONGEST_KEY = 253 + 1 + _LONGEST_LABEL
UNIX = "unix://"
PROTOCOLS = frozenset(
    {
        *("tcp", "udp", "grpc", "grpc-web", "http", "http_proxy", "http2"),
        *("https", "tls", "mongo", "redis", "mysql"),
    }
)
HTTP = frozenset({"http", "http2", "http_proxy", "grpc", "grpc-web"})
TLS = frozenset({"https", "tls"})


def is_label(text: str) -> bool:
    """Whether it is a label of DNS; case does not matter."""
    return len(text) <= _LONGEST_LABEL and _LABEL.fullmatch(text) is not None


def domain_fault(text: str) -> str | None:
    """What is wrong with a full name."""
    return _length_fault(text) or _labels_fault(text, text)


def wildcard_fault(text: str) -> str | None:
    """What is wrong with a name whose first label may begin with `*`."""
    if (fault := _length_fault(text)) is not None:
        return fault
    first, _, rest = text.partition(".")
    if len(first) > _LONGEST_LABEL or not _WILDCARD.fullmatch(first):
        return f"{quoted(text)} is no host: {quoted(first)} is no label of DNS"
    return _labels_fault(rest, text) if "." in text else None


def partial_wildcard_fault(text: str) -> str | None:
    """What is wrong with a `*` that does not stand for whole labels."""
    if "*" in text and text != "*" and not text.startswith("*."):
        return f"{quoted(text)} has a wildcard that is not a whole label"
    return None


def is_address(text: str) -> bool:
    """Whether it is an IP address; one of IPv6 may name its zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def subnet_fault(text: str) -> str | None:
    """What is wrong with an IP address or a range of them."""
    address, slash, length = text.partition("/")
    if not is_address(address):
        return f"{quoted(text)} is neither an IP address nor a range of them"
    most = 128 if ":" in address else 32
    if slash and ("%" in address or not _PREFIX_LENGTH.fullmatch(length) or int(length) > most):
        return f"{quoted(text)} is no range of IP addresses"
    return None


def socket_fault(path: str) -> str | None:
    """What is wrong with the path of a Unix socket, which follows `unix://`."""
    if path.startswith("@") or (path.startswith("/") and not path.endswith("/")):
        return None
    return f"{quoted(path)} is no absolute path of a file"


def protocol_fault(text: str) -> str | None:
    """What is wrong with a port's protocol; none is stated where Istio looks at the traffic."""
    return None if not text or text.lower() in PROTOCOLS else f"{quoted(text)} is no protocol that Istio knows"


def check_labels(labels: Mapping[str, str], path: Path) -> Findings:
    """Labels of workloads."""
    for key, value in labels.items():
        found = _KEY.fullmatch(key) if len(key) <= _LONGEST_KEY else None
        if found is None or len(found[1] or "") > _LONGEST_KEY - 64 or len(found[2]) > _LONGEST_LABEL:
            yield Finding((*path, key), f"{quoted(key)} is no key of a label")
        elif not _VALUE.fullmatch(value):
            yield Finding((*path, key), f"{quoted(value)} is no value of a label")


def checked(fault: str | None, path: Path) -> Findings:
    """A fault, if there is one, as a finding."""
    if fault is not None:
        yield Finding(path, fault)


def check_each(faults: Iterable[str | None], path: Path) -> Findings:
    """The faults of a list's items."""
    for number, fault in enumerate(faults):
        yield from checked(fault, (*path, number))


def is_wildcard(host: str) -> bool:
    """Whether a host stands for several."""
    return host.startswith("*")


class Hosts:
    """Hosts, to find those that cover one; a host costs its length, however many there are."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._plain: set[str] = set()
        self._endings: set[str] = set()
        for host in hosts:
            self.add(host)

    def add(self, host: str) -> None:
        """Takes one in."""
        (self._endings if is_wildcard(host) else self._plain).add(host.removeprefix("*"))

    def cover(self, host: str) -> bool:
        """Whether every name that a host stands for is among these."""
        if not is_wildcard(host):
            return host in self._plain or self._has_ending(host)
        return self._has_ending(host[1:])

    def _has_ending(self, text: str) -> bool:
        return any(text[at:] in self._endings for at in range(len(text) + 1)) if self._endings else False


def _length_fault(text: str) -> str | None:
    if not text:
        return "must not be empty"
    size = len(text.encode("utf-8", "replace"))
    return f"has {size} characters; {_LONGEST_NAME} are the most" if size > _LONGEST_NAME else None


def _labels_fault(text: str, whole: str) -> str | None:
    parts = text.split(".")
    if _INTEGER.fullmatch(parts[-1]):
        return f"{quoted(whole)} is no host: its last label is a number"
    for label in parts[:-1] if not parts[-1] else parts:  # a name may end in a dot
        if not is_label(label):
            return f"{quoted(whole)} is no host: {quoted(label)} is no label of DNS"
    return None
