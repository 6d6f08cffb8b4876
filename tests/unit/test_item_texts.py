"""The texts that people put into a config center: YAML and JSON, lists, what kubectl prints, and what is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.audit.differences import as_istio
from consumers.materializer.conversion import FIRST_REVISION
from consumers.materializer.conversion.config_item import BadItemError, convert_item, read_item
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.conversion.service_entry import encode_stated
from consumers.settings import ConversionSettings
from mcp_gateway.resources import PLAIN, store_resource
from schemas.records import CREATED_AT
from tests.unit.conversions import PUBLIC

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ConversionSettings()
RULE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "DestinationRule",
    "metadata": {"name": "rule"},
    "spec": {"host": "a.example"},
}
TEXT = (
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: rule}\nspec: {host: a.example}\n"
)


def with_metadata(**metadata: object) -> str:
    """A rule with more metadata, as JSON."""
    return json.dumps(RULE | {"metadata": {"name": "rule"} | metadata})


def annotated(text: str) -> dict[str, str]:
    """The annotations of the one resource of a text."""
    (made,) = convert_item(SETTINGS, PUBLIC, text)
    return made.annotations


@given(st.text(max_size=50), st.booleans())
def test_a_text_is_the_same_in_json_whatever_its_characters(text: str, escaped: bool) -> None:  # noqa: FBT001
    """Escaped as surrogate pairs or not; line separators and control characters of Unicode too."""
    written = json.dumps(RULE | {"metadata": {"name": "rule", "annotations": {"a": text}}}, ensure_ascii=escaped)
    if any("\ud800" <= character <= "\udfff" for character in text):
        with pytest.raises(BadItemError):
            convert_item(SETTINGS, PUBLIC, written)
    else:
        assert annotated(written)["a"] == text


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ('"\\ud83d\\ude00"', "😀"),
        ('"\\/a\\/"', "/a/"),
        ('"\\\\ud83d"', "\\ud83d"),
        ('"\\u2028\\u0085"', "\u2028\x85"),
    ],
)
def test_escapes_of_json_mean_what_they_mean_there(written: str, meant: str) -> None:
    """YAML knows no surrogate pairs; the first revision refused them."""
    text = with_metadata(annotations={"a": "TEXT"}).replace('"TEXT"', written)
    assert annotated(text)["a"] == meant


def test_a_fault_in_json_has_its_line() -> None:
    """As in YAML; a text that is neither is told of as YAML."""
    text = json.dumps(RULE | {"spec": {"host": "a.example", "trafficPolicy": {"tls": {"mode": "HARD"}}}}, indent=1)
    line = 1 + next(number for number, one in enumerate(text.splitlines()) if "HARD" in one)
    with pytest.raises(BadItemError) as raised:
        convert_item(SETTINGS, PUBLIC, text)
    assert (raised.value.line, raised.value.field) == (line, "spec.trafficPolicy.tls.mode")
    with pytest.raises(BadItemError):
        convert_item(SETTINGS, PUBLIC, text[:-3])


def test_a_brace_may_begin_yaml_too() -> None:
    """A map in flow style is taken as before, by every revision."""
    text = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: a}, spec: {host: b}}"
    assert convert_item(SETTINGS, PUBLIC, text) == convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)


@pytest.mark.parametrize("number", ["5", "5e-1", "0.5", "1E+1"])
def test_numbers_are_numbers_in_json_and_yaml(number: str) -> None:
    """YAML 1.1 reads 5e-1 as a text; Kubernetes does not."""
    spec = '{"hosts": ["a.b"], "http": [{"mirrorPercentage": {"value": NUMBER}, "route": [{"destination": {"host": "a"}}]}]}'
    head = '{"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "a"}, "spec": '
    for text in (head + spec + "}", f"{head}{spec}}} # YAML"):
        (made,) = convert_item(SETTINGS, PUBLIC, text.replace("NUMBER", number))
        message = KINDS["VirtualService"].message.FromString(made.body)
        assert message.http[0].mirror_percentage.value == float(number)  # type: ignore[attr-defined]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_list_states_each_of_its_items(as_json: bool) -> None:  # noqa: FBT001
    """As `kubectl get -o yaml` prints it; what is wrong with an item is found in it."""
    other = RULE | {"metadata": {"name": "other"}}
    whole = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [RULE, other]}
    text = json.dumps(whole, indent=1) + ("" if as_json else "\n# YAML")
    assert [one.name for one in convert_item(SETTINGS, PUBLIC, text)] == ["public/rule", "public/other"]
    with pytest.raises(BadItemError) as raised:
        convert_item(SETTINGS, PUBLIC, text.replace('"a.example"', '"a_b"'))
    assert raised.value.field == "items[0].spec.host"
    assert "a.example" in text.splitlines()[raised.value.line - 1]
    with pytest.raises(BadItemError, match="items: must be a list"):
        convert_item(SETTINGS, PUBLIC, json.dumps(whole | {"items": None}))
    with pytest.raises(BadItemError):
        convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)


@pytest.mark.parametrize(
    "text", [TEXT.replace("\n", "\r\n"), f"\ufeff{TEXT}", f"\ufeff{json.dumps(RULE)}", f"\n\n{TEXT}"]
)
def test_line_ends_and_marks_of_editors_change_nothing(text: str) -> None:
    """Windows' line ends, a byte order mark, empty lines before."""
    assert convert_item(SETTINGS, PUBLIC, text) == convert_item(SETTINGS, PUBLIC, TEXT)


def test_what_kubectl_adds_is_passed_over() -> None:
    """Status, managed fields, identities, and the annotation that repeats the whole text."""
    added = {
        "uid": "u", "resourceVersion": "7", "generation": 3, "managedFields": [{"manager": "kubectl"}],
        "selfLink": "/x", "finalizers": ["x"], "ownerReferences": [],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }  # fmt: skip
    text = json.dumps(RULE | {"metadata": {"name": "rule"} | added, "status": {"observedGeneration": 1}})
    assert convert_item(SETTINGS, PUBLIC, text) == convert_item(SETTINGS, PUBLIC, TEXT)


@pytest.mark.parametrize("nothing", [[], "", 0, False])
def test_what_is_empty_and_no_map_is_refused(nothing: object) -> None:
    """As Kubernetes refuses it; null is as good as nothing. The first revision took both."""
    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"}}
    for text, field in (
        (json.dumps(policy | {"spec": nothing}), "spec"),
        (with_metadata(labels=nothing), "metadata.labels"),
        (with_metadata(annotations=nothing), "metadata.annotations"),
    ):
        assert convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)
        with pytest.raises(BadItemError, match="must be a map") as raised:
            convert_item(SETTINGS, PUBLIC, text)
        assert raised.value.field == field
    assert convert_item(SETTINGS, PUBLIC, json.dumps(policy | {"spec": None}))


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ("2024-05-01T10:00:00Z", 1714557600), ("2024-05-01T12:00:00+02:00", 1714557600),
        ("2024-05-01T10:00:00.999Z", 1714557600), ("1969-12-31T23:59:59Z", -1), (None, 1),
    ],
)  # fmt: skip
def test_the_time_of_creation_reaches_pilots(stated: str | None, seconds: int) -> None:
    """Istio orders routes and filters of equal rank by it; where it is not stated, the time is a constant."""
    (made,) = convert_item(SETTINGS, PUBLIC, with_metadata(creationTimestamp=stated, annotations={"a": "b"}))
    record = encode_stated(PUBLIC, made)
    (shown,) = store_resource(record, [PLAIN]).shapes
    assert shown is not None
    metadata = shown.metadata()
    assert (metadata.create_time.seconds, metadata.create_time.nanos) == (seconds, 0)
    assert dict(metadata.annotations) == {"a": "b"}
    (plain,) = convert_item(SETTINGS, PUBLIC, with_metadata(annotations={"a": "b"}))
    assert (record.version == encode_stated(PUBLIC, plain).version) is (stated is None)
    assert ("creationTimestamp" in as_istio(record)["metadata"]) is (stated is not None)


@pytest.mark.parametrize(
    "stated",
    ["yesterday", 5, "2024-05-01", "2024-13-01T10:00:00Z", "0001-01-01T00:00:00+14:00", [], "2024-05-01T10:00:00"],
)
def test_what_is_no_time_is_refused(stated: object) -> None:
    """With its field; the first revision passed the field over."""
    text = with_metadata(creationTimestamp=stated)
    with pytest.raises(BadItemError, match=r"metadata\.creationTimestamp"):
        convert_item(SETTINGS, PUBLIC, text)
    assert convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)
    with pytest.raises(BadItemError, match="shiplog's own"):
        convert_item(SETTINGS, PUBLIC, with_metadata(annotations={CREATED_AT: "x"}))


def check(*arguments: str, text: bytes = b"") -> tuple[int, str, str]:
    """What `shiplog config-item check` answers."""
    done = subprocess.run(
        [sys.executable, "-m", "shiplog.cli", "config-item", "check", *arguments],
        input=text,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_an_item_is_checked_before_it_is_published(tmp_path: Path) -> None:
    """Collection and name of each resource; or line and field of what is wrong."""
    path = tmp_path / "item.yaml"
    path.write_text(TEXT)
    assert check(str(path), "-n", "prod") == (0, "istio/networking/v1alpha3/destinationrules  prod/rule\n", "")
    code, out, _ = check("-", "--output", "json", text=TEXT.replace("a.example", "a_b").encode())
    assert code == 1
    assert json.loads(out)["error"]["line"] == 4
    assert json.loads(out)["error"]["field"] == "spec.host"
    code, _, error = check("-", text=b"kind: Nothing")
    assert (code, error.split(":")[0]) == (1, "refused")
    code, _, error = check(str(path), "--group", "OTHER")
    assert (code, "passed over" in error) == (1, True)


@pytest.mark.parametrize(
    ("text", "code"), [(b"\xff\xfe\x00", 2), (b"a: \x00", 1), (b"x" * 2_000_000, 1), (b"", 0)]
)
def test_a_text_that_is_none_is_told_in_words(text: bytes, code: int) -> None:
    """A binary file, one that is too large, one that is empty."""
    assert check("-", text=text)[0] == code


def test_a_file_that_is_not_there_is_told_in_words(tmp_path: Path) -> None:
    """Exit code 2; a folder is no file either."""
    for path in (tmp_path / "missing", tmp_path):
        code, _, error = check(str(path))
        assert (code, error.startswith("shiplog: ")) == (2, True)


def test_hosts_of_items_are_in_lower_case() -> None:
    """Generated entries are, and a rule for another spelling would meet none of them; the warning names it."""
    host = "Orders.DEFAULT-GROUP.public.nacos"
    to = f"{{destination: {{host: {host}}}}}"
    stated = {
        "ServiceEntry": f"{{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: NONE}}",
        "DestinationRule": f"{{host: {host}}}",
        "VirtualService": f"{{hosts: [{host}], http: [{{route: [{to}], mirror: {{host: {host}}}}}], tcp: [{{route: [{to}]}}]}}",
        "Sidecar": f"{{egress: [{{hosts: ['./{host}']}}]}}",
        "Gateway": f"{{servers: [{{hosts: ['./{host}'], port: {{number: 80, name: http, protocol: HTTP}}}}]}}",
    }
    for kind, spec in stated.items():
        text = f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
        made = read_item(ConversionSettings(), PUBLIC, text)
        (resource,) = made.resources
        assert host.encode() not in resource.body
        assert host.lower().encode() in resource.body
        assert any(host in warning for warning in made.warnings)
