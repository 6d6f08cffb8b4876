"""Istio's own schemas judge: an API server that holds the definitions of istio.io/api takes what is served.

The definitions come with the module that judge/go.mod names; schemas and rules (CEL) are run by Kubernetes's code.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import MessageToDict

from consumers.materializer.conversion.config_item import BadItemError, convert_item
from consumers.materializer.conversion.kinds import KINDS
from consumers.settings import ConversionSettings
from tests.conformance.random_items import Generator
from tests.harness.istio_items import EXAMPLES
from tests.unit.conversions import PUBLIC, Log, make

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(3600)]

JUDGE = Path(__file__).parent / "judge"
SETTINGS = ConversionSettings()
COUNT = int(os.environ.get("SHIPLOG_JUDGED", "3000"))
"""Random resources; 100,000 in `make soak`."""
STRICTER = {
    "schemas see texts; the webhook knows names, hosts, addresses, labels, protocols and URLs": (
        *(r"\bis no ", r"\bis neither ", r"\bis none of", "is not of the form", "full name", "whole label"),
        *("last label", "wildcard", "empty part", "must begin with", "no port of", "is not a port", "a . that"),
        *(r"has \d+ characters", "can't be a (host|target|destination)"),
    ),
    "the webhook compiles patterns, and RE2 is what Envoy has": ("RE2",),
    "schemas leave ranges open": (r"\bis not ", "must be more than", "of whole", "must be DEFAULT or NONE"),
    "the webhook wants what makes a resource do anything": (
        *("is required", "must not be empty", "must have a field", "must have a weight", "a key is empty"),
        *("needs ", "has no name"),
    ),
    "the webhook knows what excludes each other, or goes together": (
        *("can't ", "only", "goes with", "must be ", "must match ", "must not be set", "does nothing", "covered"),
        *("is not taken", "a delegate", "alone", "with (resolution|protocol|several)", "is 0, ", "amount to"),
        *("the same region", "must be regions"),
    ),
    "the webhook knows what may stand once": ("earlier", "twice", "more than once", "overlaps"),
    "Istio does not support it": ("is not supported",),
    "schemas look at some durations only": ("no duration", "longer than", "1ms or longer"),
}
"""Why shiplog refuses more than the schemas: patterns of what it says, by reason."""
LARGE = frozenset({"tableSize", "minimumRingSize"})
"""Whole numbers of 64 bits, which protobuf's JSON writes as texts and the API server reads as numbers."""


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the judge, built once, with Istio's definitions."""
    target = tmp_path_factory.mktemp("judge") / "judge"
    for command in (
        ["go", "build", "-o", str(target), "."],
        ["go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api"],
    ):
        done = subprocess.run(command, cwd=JUDGE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return [str(target), str(Path(done.stdout.strip()) / "kubernetes/customresourcedefinitions.gen.yaml")]


def verdicts(judge: list[str], resources: list[dict[str, Any]]) -> list[str]:
    """What the judge says of each: nothing, or why it is refused."""
    text = "".join(f"{json.dumps(resource)}\n" for resource in resources)
    done = subprocess.run(judge, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ["" if line == "-" else line for line in done.stdout.splitlines()]


def ours(resource: dict[str, Any]) -> str:
    """What shiplog says of it."""
    try:
        convert_item(SETTINGS, PUBLIC, json.dumps(resource))
    except BadItemError as error:
        return str(error)
    return ""


def as_served(collection: str, name: str, body: bytes, labels: dict[str, str]) -> dict[str, Any]:
    """A resource as the gateway serves it, as an API server reads it."""
    kind = next(kind for kind in KINDS.values() if kind.collection == collection)
    spec = MessageToDict(kind.message.FromString(body))
    _numbers(spec)
    namespace, _, name = name.partition("/")
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    kind_name = kind.message.DESCRIPTOR.name
    return {
        "apiVersion": f"{kind.group}/{kind.versions[-1]}",
        "kind": kind_name,
        "metadata": metadata,
        "spec": spec,
    }


def _numbers(value: Any) -> None:
    for key, one in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        if key in LARGE:
            value[key] = int(one)
        _numbers(one)


def test_what_is_served_of_items_and_services_is_taken(judge: list[str]) -> None:
    """Every kind of item, as its bytes say, and the entries that are made of services."""
    served = [
        as_served(one.collection, one.name, one.body, one.labels)
        for text in EXAMPLES
        for one in convert_item(SETTINGS, PUBLIC, text)
    ]
    assert {one["kind"] for one in served} == set(KINDS)
    log = Log()
    instances = [
        make(f"10.0.0.{n}", metadata={"version": "v1", "protocol": p}) for n, p in enumerate(("http", "x"))
    ]
    log.keyframe(dict.fromkeys(_services(), instances))
    for (collection, name), record in log.snapshot().records.items():
        if record is not None:
            served.append(as_served(collection, name, record.body(), record.labels))
    refused = {
        (one["kind"], one["metadata"]["name"]): why
        for one, why in zip(served, verdicts(judge, served), strict=True)
        if why
    }
    assert refused == {}


def _services() -> list[Any]:
    from schemas.events import ServiceKey  # noqa: PLC0415

    names = ("orders", "Orders", "providers:com.x.Y:1.0:", "a_b", "x" * 200)
    return [ServiceKey(group, name) for group in ("DEFAULT_GROUP", "X_GROUP", "lower") for name in names]


def test_what_the_api_server_refuses_is_refused(judge: list[str]) -> None:
    """Thousands of resources that differ from good ones in a field or two; none of them is taken here only."""
    documents = list(Generator(seed=2026).documents(COUNT))
    found = [(one, theirs, ours(one)) for one, theirs in zip(documents, verdicts(judge, documents), strict=True)]
    taken_here_only = [(json.dumps(one), theirs) for one, theirs, mine in found if theirs and not mine]
    assert taken_here_only[:3] == []
    refused_here_only = [mine.split(": ", 1)[1] for _, theirs, mine in found if mine and not theirs]
    reasons = re.compile("|".join(one for group in STRICTER.values() for one in group))
    assert {one for one in refused_here_only if not reasons.search(one)} == set()
    assert sum(not theirs and not mine for _, theirs, mine in found) > COUNT / 4, "many are good all the same"


def test_what_is_legal_stays_legal(judge: list[str]) -> None:
    """The examples have most fields that there are rules for, and both take them."""
    documents = [document for text in EXAMPLES for document in yaml.safe_load_all(text)]
    assert [one for one in zip(verdicts(judge, documents), map(ours, documents), strict=True) if any(one)] == []
