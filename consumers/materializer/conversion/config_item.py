"""A config item that holds Istio's YAML to resources. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError

from consumers.materializer.conversion import FIRST_REVISION, REVISION
from consumers.materializer.conversion.endpoint import is_label
from consumers.materializer.conversion.fields import FieldError, fit
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.conversion.names import istio_namespace
from consumers.materializer.conversion.safe_yaml import Document, YamlError, read_documents
from consumers.materializer.revision_1 import names as first_names

if TYPE_CHECKING:
    from consumers.materializer.conversion.kinds import Kind
    from consumers.materializer.conversion.safe_yaml import Path
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_IGNORED_METADATA = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields"),
        *("ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds", "generateName"),
    }
)
_MAX_TOLD = 300
_FIELD_IN_ERROR = re.compile(r"Failed to parse (\w+) field")


class ConfigResource(NamedTuple):
    """A resource that a config item states; `body` is encoded, its fields in order."""

    collection: str
    name: str
    type_url: str
    labels: dict[str, str]
    annotations: dict[str, str]
    body: bytes


class BadItemError(Exception):
    """An item that can't be used: where, and why, each in a few hundred characters."""

    def __init__(self, line: int, field: str, detail: str) -> None:
        self.line = line
        self.field = _cut(field)
        super().__init__(f"line {line}, {self.field or 'the text'}: {_cut(detail)}")


def convert_item(
    settings: ConversionSettings, namespace: Namespace, text: str, revision: str = REVISION
) -> tuple[ConfigResource, ...]:
    """The resources of an item, in the order of their documents, as a revision of the conversion makes them.

    Raises:
        BadItemError: any of them can't be used; then none is.
    """
    found: dict[tuple[str, str], ConfigResource] = {}
    finite = revision != FIRST_REVISION
    home = (istio_namespace if finite else first_names.istio_namespace)(settings, namespace)
    try:
        for document in read_documents(text, finite=finite):
            resource = _convert(home, document, finite=finite)
            if (resource.collection, resource.name) in found:
                raise _bad(document, ("metadata", "name"), f"{resource.name} stands in an earlier document too")
            found[resource.collection, resource.name] = resource
    except YamlError as error:
        raise BadItemError(error.line, _written(error.path), error.detail) from error
    return tuple(found.values())


def _convert(default_home: str, document: Document, *, finite: bool) -> ConfigResource:
    whole = document.value
    if not isinstance(whole, dict):
        raise _bad(document, (), "a document must be a map with apiVersion, kind, metadata and spec")
    for key in whole.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        raise _bad(document, (key,), "not a field of a resource")
    kind = _kind(document, whole)
    name, labels, annotations = _metadata(default_home, document, whole.get("metadata"))
    spec = whole.get("spec") or {}
    try:
        message = ParseDict(fit(kind.descriptor, spec, ("spec",), finite=finite), kind.message())
    except FieldError as error:
        raise _bad(document, error.path, error.detail) from error
    except ParseError as error:
        path = ("spec", *_FIELD_IN_ERROR.findall(str(error)))
        raise BadItemError(_line_of(document, path), _written(path), str(error).rsplit(": ", 1)[-1]) from error
    return ConfigResource(
        kind.collection, name, kind.type_url, labels, annotations, message.SerializeToString(deterministic=True)
    )


def _kind(document: Document, whole: dict[str, Any]) -> Kind:
    kind = KINDS.get(str(whole.get("kind")))
    if kind is None:
        raise _bad(document, ("kind",), f"{whole.get('kind')} is none of {', '.join(sorted(KINDS))}")
    accepted = [f"{kind.group}/{version}" for version in kind.versions]
    if whole.get("apiVersion") not in accepted:
        raise _bad(document, ("apiVersion",), f"{whole.get('apiVersion')} is none of {', '.join(accepted)}")
    return kind


def _metadata(default_home: str, document: Document, metadata: Any) -> tuple[str, dict[str, str], dict[str, str]]:
    if not isinstance(metadata, dict):
        raise _bad(document, ("metadata",), "is missing")
    for key in metadata.keys() - _IGNORED_METADATA - {"name", "namespace", "labels", "annotations"}:
        raise _bad(document, ("metadata", key), "not a field of metadata")
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise _bad(document, ("metadata", "name"), f"{name} is no name as Kubernetes has them")
    home = metadata.get("namespace")
    if home is None:
        home = default_home
    elif not isinstance(home, str) or not _NAMESPACE.match(home):
        raise _bad(document, ("metadata", "namespace"), f"{home} is no name as Kubernetes has them")
    labels = _texts(document, metadata, "labels")
    for key, value in labels.items():
        if not is_label(key, value):
            raise _bad(document, ("metadata", "labels", key), f"{value} can't be a label")
    return f"{home}/{name}", labels, _texts(document, metadata, "annotations")


def _texts(document: Document, metadata: dict[str, Any], field: str) -> dict[str, str]:
    texts = metadata.get(field) or {}
    if not isinstance(texts, dict):
        raise _bad(document, ("metadata", field), "must be a map")
    for key, value in texts.items():
        if not isinstance(value, str):
            raise _bad(document, ("metadata", field, key), f"must be a text; put {value} in quotes")
    return texts


def _bad(document: Document, path: Path, detail: str) -> BadItemError:
    return BadItemError(document.line(path), _written(path), detail)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}..."


def _written(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _line_of(document: Document, path: tuple[str, ...]) -> int:
    """The first line whose path has these names, whatever numbers stand between them."""
    for at, line in document.lines.items():
        if tuple(part for part in at if isinstance(part, str)) == path:
            return line
    return document.line(path)
