"""Config items that know Istio's schemas: any field of any kind, filled with whatever a text can say."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.conversion import REVISIONS
from consumers.materializer.conversion.config_item import BadItemError, convert_item
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.faults import Reason
from consumers.materializer.fold import Outcome
from consumers.settings import ConversionSettings
from schemas.events import ConfigGone, ConfigKey, ConfigState
from tests.harness.istio_items import EXAMPLES
from tests.property.hostile import PATHS, SETTINGS, Way, wrapped, yaml_values
from tests.unit.conversions import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import FieldDescriptor

METADATA = ("name", "namespace", "labels", "annotations", "generation", "managedFields", "creationTimestamp", "x")


@st.composite
def items(draw: Callable[..., str]) -> str:
    """A document of some kind whose fields are good, but for one or two."""
    name = draw(st.sampled_from(sorted(KINDS)))
    kind = KINDS[name]
    spec = wrapped(draw(st.sampled_from(PATHS[name])), draw(yaml_values))
    head = {"apiVersion": f"{kind.group}/{kind.versions[-1]}", "kind": name, "spec": spec}
    metadata = {"name": "hostile"}
    if draw(st.integers(0, 5)) == 0:
        metadata[draw(st.sampled_from(METADATA))] = draw(yaml_values)
    if draw(st.integers(0, 9)) == 0:
        head[draw(st.sampled_from(["apiVersion", "kind", "spec", "status", "x"]))] = draw(yaml_values)
    if draw(st.integers(0, 5)) == 0:
        label = draw(st.sampled_from(['{"k": %s}', '{%s: "v"}']))
        metadata[draw(st.sampled_from(["labels", "annotations"]))] = label.replace("%s", draw(yaml_values))
    head["metadata"] = "{" + ", ".join(f"{key}: {value}" for key, value in metadata.items()) + "}"
    text = "\n".join(f"{key}: {value}" for key, value in head.items()) + "\n"
    return text + draw(st.sampled_from(["", "---\n", f"---\n{text}", "...\n", "--- 1\n"]))


GOOD = [document for text in EXAMPLES for document in yaml.safe_load_all(text)]
HERE = "here-stands-what-is-hostile"


def put(value: Any, path: tuple[FieldDescriptor, ...]) -> Any:
    """The value with a mark at the end of a path; what stands beside the path stays."""
    if not path:
        return HERE
    one, rest = path[0], path[1:]
    if not isinstance(value, dict):
        value = {}
    inner, found = one.message_type, value.get(one.json_name)
    if inner is not None and inner.GetOptions().map_entry:
        entries = found if isinstance(found, dict) and found else {"key": None}
        key = next(iter(entries))
        return value | {one.json_name: entries | {key: put(entries[key], rest)}}
    if one.is_repeated:
        listed = found if isinstance(found, list) and found else [None]
        return value | {one.json_name: [put(listed[0], rest), *listed[1:]]}
    return value | {one.json_name: put(found, rest)}


@st.composite
def nearly_good_items(draw: Callable[..., Any]) -> str:
    """An item that Istio takes but for one value; the validation looks at all of it."""
    document = draw(st.sampled_from(GOOD))
    path = draw(st.sampled_from(PATHS[document["kind"]]))
    spec = json.dumps(put(document["spec"], path)).replace(f'"{HERE}"', draw(yaml_values))
    head = {key: json.dumps(document[key]) for key in ("apiVersion", "kind", "metadata")}
    return "\n".join(f"{key}: {value}" for key, value in (head | {"spec": spec}).items()) + "\n"


@given(nearly_good_items())
@SETTINGS
def test_a_hostile_value_among_good_ones_costs_the_item_alone(text) -> None:
    """Nothing but `BadItemError` comes out, of any revision; what is taken travels."""
    for revision in REVISIONS:
        with contextlib.suppress(BadItemError):
            convert_item(ConversionSettings(), PUBLIC, text, revision)
    way = Way()
    way.open()
    if is_encodable(text):
        key = ConfigKey("ISTIO", "hostile.yaml")
        way.add(ConfigState(key=key, content=text, content_type="yaml", md5=""))
        assert not any(fault.reason is Reason.INTERNAL_FAULT for fault in way.partition.faults)
        way.publish()
    assert way.good_service_is_published()


@given(items())
@SETTINGS
def test_whatever_an_item_says_costs_the_item_alone(text) -> None:
    """It becomes a resource that travels, or is refused with line and field; a good service is published after it.

    Nothing but `BadItemError` comes out of the conversion, and no fault of ours out of the fold.
    """
    key = ConfigKey("ISTIO", "hostile.yaml")
    refused = ""
    try:
        convert_item(ConversionSettings(), PUBLIC, text)
    except BadItemError as error:
        refused = str(error)
        assert refused.startswith("line ")
        assert len(refused) < 1000
    way = Way()
    way.open()
    if is_encodable(text):
        outcome = way.add(ConfigState(key=key, content=text, content_type="yaml", md5=""))
        assert outcome is (Outcome.BAD_ITEM if refused else Outcome.APPLIED)
        if refused:
            (fault,) = way.partition.faults
            assert str(fault) == f"ISTIO/hostile.yaml, {refused}"[: len(str(fault))]
        way.publish()
        assert bool(way.published) is not bool(refused)
    assert way.good_service_is_published()
    way.add(ConfigGone(key=key))
    way.publish()
    assert len(way.published) == 1


def is_encodable(text: str) -> bool:
    """Whether it can be in an event at all: the listener sets aside what is no Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_the_generator_knows_every_field() -> None:
    """Of every kind: those that were seen to end the materializer are among them."""
    names = {kind: {".".join(field.name for field in path) for path in found} for kind, found in PATHS.items()}
    assert "http.mirror_percentage.value" in names["VirtualService"]
    assert "http.timeout" in names["VirtualService"]
    assert "config_patches.patch.value" in names["EnvoyFilter"]
    assert "jwt_rules.jwks" in names["RequestAuthentication"]
    assert sum(map(len, names.values())) > 400
