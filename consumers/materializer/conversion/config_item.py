"""A config item that holds Istio's YAML to resources. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError

from consumers.materializer.conversion import FIRST_REVISION, REVISION
from consumers.materializer.conversion.documents import BadItemError, read_resources, written
from consumers.materializer.conversion.fields import fit
from consumers.materializer.conversion.item_hosts import lower_hosts
from consumers.materializer.conversion.kinds import KINDS, SINCE_2, VERSIONS_OF_1
from consumers.materializer.conversion.metadata import read_metadata
from consumers.materializer.conversion.names import istio_namespace
from consumers.materializer.conversion.validation.checks import check_resource
from consumers.materializer.conversion.validation.findings import FieldError
from consumers.materializer.conversion.validation.patterns import Patterns
from consumers.materializer.conversion.validation.resource import Resource
from consumers.materializer.revision_1 import names as first_names

if TYPE_CHECKING:
    from consumers.materializer.conversion.documents import Stated
    from consumers.materializer.conversion.kinds import Kind
    from consumers.materializer.conversion.metadata import Metadata
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace

__all__ = ["BadItemError", "ConfigResource", "Item", "convert_item", "read_item"]

_FIELD_IN_ERROR = re.compile(r"Failed to parse (\w+) field")
_MOST_WARNINGS = 20


class ConfigResource(NamedTuple):
    """A resource that a config item states; `body` is encoded, its fields in order."""

    collection: str
    name: str
    type_url: str
    labels: dict[str, str]
    annotations: dict[str, str]
    body: bytes


class Item(NamedTuple):
    """What an item states, in the order of its documents, and what Istio warns of in it, cut to a few."""

    resources: tuple[ConfigResource, ...]
    warnings: tuple[str, ...]


def convert_item(
    settings: ConversionSettings, namespace: Namespace, text: str, revision: str = REVISION
) -> tuple[ConfigResource, ...]:
    """The resources of an item; see `read_item`."""
    return read_item(settings, namespace, text, revision).resources


def read_item(settings: ConversionSettings, namespace: Namespace, text: str, revision: str = REVISION) -> Item:
    """The resources of an item, in the order of their documents, as a revision of the conversion makes them.

    Raises:
        BadItemError: any of them can't be used; then none is.
    """
    found: dict[tuple[str, str], ConfigResource] = {}
    warnings: list[str] = []
    strict, patterns = revision != FIRST_REVISION, Patterns()
    home = (istio_namespace if strict else first_names.istio_namespace)(settings, namespace)
    for stated in read_resources(text, strict=strict):
        resource = _convert(home, stated, patterns, warnings, strict=strict)
        if (resource.collection, resource.name) in found:
            raise stated.bad(("metadata", "name"), f"{resource.name} stands in an earlier document too")
        found[resource.collection, resource.name] = resource
    return Item(tuple(found.values()), tuple(warnings))


def _convert(
    home: str, stated: Stated, patterns: Patterns, warnings: list[str], *, strict: bool
) -> ConfigResource:
    whole = stated.value
    if not isinstance(whole, dict):
        raise stated.bad((), "a document must be a map with apiVersion, kind, metadata and spec")
    for key in whole.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        raise stated.bad((key,), "not a field of a resource")
    kind = _kind(stated, strict=strict)
    metadata = read_metadata(home, stated, strict=strict)
    message = _message(stated, kind, strict=strict)
    if strict:
        respelled = lower_hosts(message)[:_MOST_WARNINGS]
        warnings += [str(stated.bad(("spec",), f"the host {host} is served in lower case")) for host in respelled]
        _validate(stated, message, _described(metadata, patterns), warnings)
    name = f"{metadata.namespace}/{metadata.name}"
    return ConfigResource(
        kind.collection,
        name,
        kind.type_url,
        metadata.labels,
        metadata.annotations,
        message.SerializeToString(deterministic=True),
    )


def _kind(stated: Stated, *, strict: bool) -> Kind:
    whole = stated.value
    known = KINDS if strict else {name: kind for name, kind in KINDS.items() if name not in SINCE_2}
    kind = known.get(str(whole.get("kind")))
    if kind is None:
        raise stated.bad(("kind",), f"{whole.get('kind')} is none of {', '.join(sorted(known))}")
    versions = kind.versions if strict else VERSIONS_OF_1[kind.group]
    accepted = [f"{kind.group}/{version}" for version in versions]
    if whole.get("apiVersion") not in accepted:
        raise stated.bad(("apiVersion",), f"{whole.get('apiVersion')} is none of {', '.join(accepted)}")
    return kind


def _message(stated: Stated, kind: Kind, *, strict: bool) -> Any:
    """The body as a message of its kind."""
    spec = stated.value.get("spec")
    if spec is None or (not strict and not spec):
        spec = {}
    try:
        return ParseDict(fit(kind.descriptor, spec, ("spec",), strict=strict), kind.message())
    except FieldError as error:
        raise stated.bad(error.path, error.detail) from error
    except ParseError as error:
        path = ("spec", *_FIELD_IN_ERROR.findall(str(error)))
        line = stated.line_of_names(path)
        detail = str(error).rsplit(": ", 1)[-1]
        raise BadItemError(line, written((*stated.place, *path)), detail) from error


def _described(metadata: Metadata, patterns: Patterns) -> Resource:
    return Resource(metadata.namespace, metadata.name, metadata.labels, metadata.annotations, patterns)


def _validate(stated: Stated, message: Any, resource: Resource, warnings: list[str]) -> None:
    """Refuses what Istio refuses, by the first line that is wrong; adds what Istio warns of."""
    found = check_resource(message.DESCRIPTOR.name, message, resource)
    faults = [one for one in found if not one.is_warning]
    if faults:
        first = min(faults, key=lambda one: (stated.line(one.path), written(one.path), one.detail))
        raise stated.bad(first.path, first.detail)
    room = max(0, _MOST_WARNINGS - len(warnings))
    warnings += [str(stated.bad(one.path, one.detail)) for one in found[:room]]
