"""The metadata of a resource that a config item states. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from consumers.materializer.conversion.endpoint import is_label
from schemas.records import CREATED_AT

if TYPE_CHECKING:
    from consumers.materializer.conversion.documents import Stated

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_IGNORED = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields"),
        *("ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds", "generateName"),
    }
)
_IGNORED_ANNOTATIONS = frozenset({"kubectl.kubernetes.io/last-applied-configuration"})
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Metadata(NamedTuple):
    """What identifies a resource, and what is attached to it."""

    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]


def read_metadata(default_home: str, stated: Stated, *, strict: bool) -> Metadata:
    """A resource's metadata, in the Istio namespace `default_home` by default; what kubectl adds is passed over.

    Raises:
        BadItemError: it is none.
    """
    metadata = stated.value.get("metadata")
    if not isinstance(metadata, dict):
        raise stated.bad(("metadata",), "is missing")
    for key in metadata.keys() - _IGNORED - {"name", "namespace", "labels", "annotations"}:
        raise stated.bad(("metadata", key), "not a field of metadata")
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise stated.bad(("metadata", "name"), f"{name} is no name as Kubernetes has them")
    home = metadata.get("namespace")
    if home is None:
        home = default_home
    elif not isinstance(home, str) or not _NAMESPACE.match(home):
        raise stated.bad(("metadata", "namespace"), f"{home} is no name as Kubernetes has them")
    labels = _texts(stated, metadata, "labels", strict=strict)
    for key, value in labels.items():
        if not is_label(key, value):
            raise stated.bad(("metadata", "labels", key), f"{value} can't be a label")
    annotations = _texts(stated, metadata, "annotations", strict=strict)
    if strict:
        annotations = _with_time(stated, metadata.get("creationTimestamp"), annotations)
    return Metadata(home, name, labels, annotations)


def _texts(stated: Stated, metadata: dict[str, Any], field: str, *, strict: bool) -> dict[str, str]:
    texts = metadata.get(field)
    if texts is None or (not strict and not texts):
        return {}
    if not isinstance(texts, dict):
        raise stated.bad(("metadata", field), "must be a map")
    for key, value in texts.items():
        if not isinstance(value, str):
            raise stated.bad(("metadata", field, key), f"must be a text; put {value} in quotes")
    return texts


def _with_time(stated: Stated, created: Any, annotations: dict[str, str]) -> dict[str, str]:
    """The annotations without kubectl's, and with the time of creation, if it is stated."""
    if CREATED_AT in annotations:
        raise stated.bad(("metadata", "annotations", CREATED_AT), "is shiplog's own; state creationTimestamp")
    kept = {key: value for key, value in annotations.items() if key not in _IGNORED_ANNOTATIONS}
    if created is not None:
        kept[CREATED_AT] = _time(stated, created)
    return kept


def _time(stated: Stated, created: Any) -> str:
    """A time of RFC 3339, to the second, in UTC."""
    path = ("metadata", "creationTimestamp")
    if not isinstance(created, str) or not _TIME.fullmatch(created):
        raise stated.bad(path, f"{created} is no time as 2024-05-01T10:00:00Z")
    try:
        moment = datetime.fromisoformat(created.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise stated.bad(path, f"{created} is no time that there is") from error
    return f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}Z"
