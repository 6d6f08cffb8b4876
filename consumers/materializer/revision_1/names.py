"""Names as the first revision made them: see `consumers.materializer.conversion.names` for what differs since.

istiod takes letters of either case, digits and `-` in labels of at most 63 characters, 253 in all. Nacos
allows nearly everything: Dubbo's `providers:com.x.Y:1.0:`, groups such as `X_GROUP`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from consumers.materializer.conversion.names import ServiceName

if TYPE_CHECKING:
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace, ServiceKey

MAX_LABEL = 63
MAX_NAME = 253
_FOREIGN = re.compile(r"[^A-Za-z0-9-]+")
_HASH_DIGITS = 8


def service_name(
    settings: ConversionSettings, namespace: Namespace, key: ServiceKey, *, collides: bool = False
) -> ServiceName:
    """The names of a service; with `collides` they carry a short hash of what they were made from."""
    parts = {
        "service": with_hash(normalise(key.service), f"{key.group}@@{key.service}")
        if collides
        else normalise(key.service),
        "group": normalise(key.group),
        "namespace": normalise_namespace(namespace),
    }
    identity = f"{namespace}@@{key.group}@@{key.service}"
    return ServiceName(
        istio_namespace=_fit(settings.istio_namespace.format(**parts), identity, MAX_LABEL),
        name=_fit(settings.name.format(**parts), identity, MAX_NAME),
        host=_fit(settings.host.format(**parts), identity, MAX_NAME),
    )


def istio_namespace(settings: ConversionSettings, namespace: Namespace) -> str:
    """The Istio namespace of what names none: that of the services, where it does not depend on them."""
    label = normalise_namespace(namespace)
    try:
        return _fit(settings.istio_namespace.format(namespace=label), namespace, MAX_LABEL)
    except KeyError:
        return label


def is_canonical(key: ServiceKey) -> bool:
    """Whether the service's names need no changes, Nacos's own default group aside.

    Of services whose names come out alike, a canonical one keeps its name: a newcomer with an odd name
    can't take the host of a service that always had it.
    """
    return normalise(key.service) == key.service and (
        key.group == "DEFAULT_GROUP" or normalise(key.group) == key.group
    )


def normalise(text: str) -> str:
    """The text with other characters as `-`, label by label; long labels end in a short hash."""
    labels = (_FOREIGN.sub("-", label).strip("-") for label in text.split("."))
    fitting = [
        label if len(label) <= MAX_LABEL else with_hash(label[: MAX_LABEL - _HASH_DIGITS - 1].rstrip("-"), label)
        for label in labels
        if label
    ]
    return ".".join(fitting) or f"x-{_short_hash(text)}"


def normalise_namespace(namespace: str) -> str:
    """A namespace's id as one label.

    One that had to be changed always carries a hash: namespaces are folded apart, so that two of them
    come out alike would be seen by nobody.
    """
    label = normalise(namespace).replace(".", "-")
    return label if label == namespace else with_hash(label[: MAX_LABEL - _HASH_DIGITS - 1], namespace)


def with_hash(text: str, identity: str) -> str:
    """The text with a short hash of the identity in its first label."""
    first, dot, rest = text.partition(".")
    return f"{first[: MAX_LABEL - _HASH_DIGITS - 1].rstrip('-')}-{_short_hash(identity)}{dot}{rest}"


def _fit(name: str, identity: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    digits = _short_hash(identity)
    return f"{digits}.{name[-(limit - _HASH_DIGITS - 1) :].lstrip('.-')}"


def _short_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=_HASH_DIGITS // 2).hexdigest()
