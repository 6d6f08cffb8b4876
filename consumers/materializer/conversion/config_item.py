"""A config item that holds Istio's YAML to resources. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.json_format import ParseDict, ParseError

from consumers.materializer.conversion.endpoint import is_label
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.conversion.names import istio_namespace
from consumers.materializer.conversion.safe_yaml import Document, YamlError, read_documents

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    from consumers.materializer.conversion.kinds import Kind
    from consumers.materializer.conversion.safe_yaml import Path
    from consumers.settings import ConversionSettings
    from schemas.events import Namespace

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*\Z")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_IGNORED_METADATA = frozenset(
    {
        *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields"),
        *("ownerReferences", "finalizers", "selfLink", "deletionGracePeriodSeconds", "generateName"),
    }
)
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
    """An item that can't be used: where, and why."""

    def __init__(self, line: int, field: str, detail: str) -> None:
        super().__init__(f"line {line}, {field or 'the text'}: {detail}")
        self.line = line
        self.field = field


def convert_item(settings: ConversionSettings, namespace: Namespace, text: str) -> tuple[ConfigResource, ...]:
    """The resources of an item, in the order of their documents.

    Raises:
        BadItemError: any of them can't be used; then none is.
    """
    found: list[ConfigResource] = []
    try:
        for document in read_documents(text):
            resource = _convert(settings, namespace, document)
            if any((one.collection, one.name) == (resource.collection, resource.name) for one in found):
                raise _bad(document, ("metadata", "name"), f"{resource.name} stands in an earlier document too")
            found.append(resource)
    except YamlError as error:
        raise BadItemError(error.line, _written(error.path), error.detail) from error
    return tuple(found)


def _convert(settings: ConversionSettings, namespace: Namespace, document: Document) -> ConfigResource:
    whole = document.value
    if not isinstance(whole, dict):
        raise _bad(document, (), "a document must be a map with apiVersion, kind, metadata and spec")
    for key in whole.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        raise _bad(document, (key,), "not a field of a resource")
    kind = _kind(document, whole)
    name, labels, annotations = _metadata(settings, namespace, document, whole.get("metadata"))
    spec = whole.get("spec") or {}
    fitted = _fit(document, kind.descriptor, spec, ("spec",))
    try:
        message = ParseDict(fitted, kind.message())
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


def _metadata(
    settings: ConversionSettings, namespace: Namespace, document: Document, metadata: Any
) -> tuple[str, dict[str, str], dict[str, str]]:
    if not isinstance(metadata, dict):
        raise _bad(document, ("metadata",), "is missing")
    for key in metadata.keys() - _IGNORED_METADATA - {"name", "namespace", "labels", "annotations"}:
        raise _bad(document, ("metadata", key), "not a field of metadata")
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise _bad(document, ("metadata", "name"), f"{name} is no name as Kubernetes has them")
    home = metadata.get("namespace")
    if home is None:
        home = istio_namespace(settings, namespace)
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


def _fit(document: Document, message: Descriptor, value: Any, path: Path) -> Any:
    """The value as protobuf's JSON wants it: fields known, durations in seconds.

    Raises:
        BadItemError: a field that the message does not have, or a duration that is none.
    """
    if message.full_name == "google.protobuf.Duration":
        return _duration(document, value, path)
    if message.full_name.startswith("google.protobuf."):
        return value
    if not isinstance(value, dict):
        raise _bad(document, path, f"must be a map with the fields of {message.name}")
    fitted = {}
    for key, inner in value.items():
        field = message.fields_by_camelcase_name.get(key) or message.fields_by_name.get(key)
        if field is None:
            raise _bad(document, (*path, key), f"{message.name} has no such field")
        if inner is not None:
            fitted[key] = _fit_field(document, field, inner, (*path, key))
    return fitted


def _fit_field(document: Document, field: FieldDescriptor, value: Any, path: Path) -> Any:
    inner = field.message_type
    if inner is None:
        return value
    if inner.GetOptions().map_entry:
        values = inner.fields_by_name["value"]
        if not isinstance(value, dict):
            raise _bad(document, path, "must be a map")
        return {key: _fit_field(document, values, one, (*path, key)) for key, one in value.items()}
    if field.is_repeated:
        if not isinstance(value, list):
            raise _bad(document, path, "must be a list")
        return [_fit(document, inner, one, (*path, number)) for number, one in enumerate(value)]
    return _fit(document, inner, value, path)


def _duration(document: Document, value: Any, path: Path) -> str:
    """Go's way of writing durations, which Istio's users know, as seconds."""
    text = str(value)
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    parts = _DURATION_PART.findall(digits)
    if digits != "0" and (not parts or "".join(number + unit for number, unit in parts) != digits):
        raise _bad(document, path, f"{text} is no duration such as 1.5s, 100ms or 1h30m")
    seconds = sum((Decimal(number) * _UNITS[unit] for number, unit in parts), Decimal(0))
    return f"{sign}{seconds.quantize(Decimal('1e-9')):f}s"


def _bad(document: Document, path: Path, detail: str) -> BadItemError:
    return BadItemError(document.line(path), _written(path), detail)


def _written(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _line_of(document: Document, path: tuple[str, ...]) -> int:
    """The first line whose path has these names, whatever numbers stand between them."""
    for at, line in document.lines.items():
        if tuple(part for part in at if isinstance(part, str)) == path:
            return line
    return document.line(path)
