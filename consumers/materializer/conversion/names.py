"""Names that Istio accepts, from names that Nacos allows.

Hosts and names have labels of at most 63 lower-case letters, digits and `-`, 253 characters in all; an Istio
namespace is one such label. Nacos allows nearly everything: Dubbo's `providers:com.x.Y:1.0:`, groups such as
`X_GROUP`. Letters become lower case, because routes carry hosts in lower case and clusters as they are written.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumers.materializer.conversion.rules import rules_of

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace, ServiceKey

MAX_LABEL = 63
MAX_NAME = 253
_FOREIGN = re.compile(r"[^A-Za-z0-9-]+")
_HASH_DIGITS = 8
_LOOKS_HASHED = re.compile(rf"-x[0-9a-f]{{{_HASH_DIGITS}}}\Z")
"""How a namespace ends that had to be changed; ids that people and programs make up hardly ever do."""


@dataclass(frozen=True, slots=True)
class ServiceName:
    """What a service is called in Istio; `host` and `name` are without its Istio namespace."""

    istio_namespace: str
    name: str
    host: str

    @property
    def resource(self) -> str:
        """The name of the resource: `namespace/name`."""
        return f"{self.istio_namespace}/{self.name}"


def service_name(
    settings: ConversionSettings, namespace: Namespace, key: ServiceKey, *, attempt: int = 0
) -> ServiceName:
    """The names of a service: the plain ones, or with an `attempt` such that carry a short hash of its identity.

    Each attempt has another hash. Templates are judged by what they give: that is made to fit as a whole.
    """
    identity = f"{namespace}@@{key.group}@@{key.service}"
    salted = f"{identity}#{attempt}" if attempt > 1 else identity
    service = normalise(key.service)
    parts = {
        "service": with_hash(service, salted) if attempt else service,
        "group": normalise(key.group),
        "namespace": normalise_namespace(namespace),
    }

    def made(template: str) -> str:
        text = normalise(template.format(**parts))
        return _as_name(with_hash(text, salted) if attempt and "{service" not in template else text, salted)

    rules = rules_of(settings.rules, namespace, key) if settings.rules else None
    return ServiceName(
        istio_namespace=_as_label(settings.istio_namespace.format(**parts | {"service": service}), identity),
        name=made(settings.name),
        host=_as_host(made((rules and rules.of_service.host) or settings.host)),
    )


def istio_namespace(settings: ConversionSettings, namespace: Namespace) -> str:
    """The Istio namespace of what names none: that of the services, where it does not depend on them."""
    label = normalise_namespace(namespace)
    try:
        return _as_label(settings.istio_namespace.format(namespace=label), namespace)
    except KeyError:
        return label


def is_canonical(key: ServiceKey) -> bool:
    """Whether the service's names need no changes, Nacos's own default group aside.

    Of services that came at the same time and are called alike, a canonical one goes first.
    """
    return normalise(key.service) == key.service and (
        key.group == "DEFAULT_GROUP" or normalise(key.group) == key.group
    )


def normalise(text: str) -> str:
    """The text in lower case, other characters as `-`, label by label; long labels end in a short hash."""
    labels = (_FOREIGN.sub("-", label).strip("-").lower() for label in text.split("."))
    fitting = [
        label if len(label) <= MAX_LABEL else with_hash(label[: MAX_LABEL - _HASH_DIGITS - 1].rstrip("-"), label)
        for label in labels
        if label
    ]
    return ".".join(fitting) or f"x-{_short_hash(text)}"


def normalise_namespace(namespace: str) -> str:
    """A namespace's id as one label.

    One that had to be changed always carries a hash, and so does one that looks as if it did: namespaces are
    folded apart, so that two of them come out alike would be seen by nobody.
    """
    label = normalise(namespace).replace(".", "-")
    if label == namespace and not _LOOKS_HASHED.search(label):
        return label
    return _with_marked_hash(label, namespace)


def with_hash(text: str, identity: str) -> str:
    """The text with a short hash of the identity in its first label."""
    first, dot, rest = text.partition(".")
    return f"{first[: MAX_LABEL - _HASH_DIGITS - 1].rstrip('-')}-{_short_hash(identity)}{dot}{rest}"


def _as_name(name: str, identity: str) -> str:
    """The name, cut at its front where it is too long."""
    if len(name) <= MAX_NAME:
        return name
    return f"{_short_hash(identity)}.{name[-(MAX_NAME - _HASH_DIGITS - 1) :].lstrip('.-')}"


def _as_host(name: str) -> str:
    """The name as a host: Istio refuses one whose last label is digits, which might be an address."""
    before, dot, last = name.rpartition(".")
    return f"{before}{dot}x{last[: MAX_LABEL - 1]}"[-MAX_NAME:].lstrip(".-") if last.isdigit() else name


def _as_label(text: str, identity: str) -> str:
    """What a template gave, as one label."""
    label = normalise(text).replace(".", "-")
    return label if len(label) <= MAX_LABEL else _with_marked_hash(label, identity)


def _with_marked_hash(label: str, identity: str) -> str:
    """The label with a hash by which it is known to have one."""
    return f"{label[: MAX_LABEL - _HASH_DIGITS - 2].rstrip('-')}-x{_short_hash(identity)}"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_DIGITS // 2).hexdigest()
