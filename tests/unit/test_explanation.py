"""`shiplog explain`: what is said of a service."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from consumers.audit.explanation import Explanation
from consumers.materializer.conversion import converter_name
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings
from producers.listener.diff import diff, state
from schemas.events import ServiceKey
from shiplog.cli import app
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make, seen

KEY = ServiceKey("DEFAULT_GROUP", "svc")


def explained(log: Log, key: ServiceKey = KEY, *, settings: ConversionSettings | None = None) -> dict[str, Any]:
    """What is said of a service once a log is read."""
    occasion = Occasion(
        "test", converter=converter_name(log.settings, UNGUARDED), recover_from={TOPIC: 0},
        folded_to={TOPIC: len(log.events) - 1},
    )  # fmt: skip
    update = NamespaceView(PUBLIC, log.settings).update_all(log.fold.state, occasion)
    assert update is not None
    explanation = Explanation(settings or log.settings, UNGUARDED, update.manifest, key)
    for offset, event in enumerate(log.events):
        explanation.apply(TOPIC, offset, event)
    answer = explanation.answer()
    assert json.loads(json.dumps(answer)) == answer
    return answer


def test_each_instance_is_explained() -> None:
    """Listed or not, why not, and the rules that match it."""
    rules = [
        {"match": {"service": "svc"}, "set": {"protocol": "grpc"}},
        {"match": {"service": "other"}, "set": {"drop": True}},
        {"match": {"metadata": {"env": "dev"}}, "set": {"drop": True}},
    ]
    log = Log(ConversionSettings.model_validate({"rules": rules}))
    here = [
        make(), make("10.0.0.2", enabled=False), make("10.0.0.3", healthy=False), make("10.0.0.4", weight=0.0),
        make("127.0.0.1"), make("h.example"), make("10.0.0.5"), make("10.0.0.1", cluster="c2"),
    ]  # fmt: skip
    log.keyframe({KEY: here})
    body, stated = state(KEY, seen(*here))
    log.add(body)
    changed = [one if one.ip != "10.0.0.5" else one._replace(metadata={"env": "dev"}) for one in here]
    delta, _ = diff(KEY, stated, seen(*changed))
    assert delta is not None
    log.add(delta)
    answer = explained(log)
    assert {(row["address"], row["cluster"]): row["why_not"] or row["listed"] for row in answer["instances"]} == {
        ("10.0.0.1:8080", "DEFAULT"): "yes", ("10.0.0.1:8080", "c2"): "repeated",
        ("10.0.0.2:8080", "DEFAULT"): "disabled",
        ("10.0.0.3:8080", "DEFAULT"): "unhealthy", ("10.0.0.4:8080", "DEFAULT"): "weight 0",
        ("10.0.0.5:8080", "DEFAULT"): "dropped", ("127.0.0.1:8080", "DEFAULT"): "local_address",
        ("h.example:8080", "DEFAULT"): "other_resolution",
    }  # fmt: skip
    assert {row["address"]: row["rules"] for row in answer["instances"]}["10.0.0.5:8080"] == "1, 3"
    assert [(row["rule"], row["for"]) for row in answer["rules_that_match"]] == [
        (1, "all of it"), (3, 'its instances with {"metadata":{"env":"dev"}}'),
    ]  # fmt: skip
    assert (answer["ports"], answer["endpoints"], answer["note"]) == (["grpc 8080/GRPC"], 1, "")


def test_other_settings_are_said_to_be_others() -> None:
    """It shows what rules would do, before materializers have them."""
    log = Log()
    log.keyframe({KEY: [make()]})
    tried = ConversionSettings.model_validate({"rules": [{"set": {"protocol": "tcp"}}]})
    answer = explained(log, settings=tried)
    assert answer["ports"] == ["tcp 8080/TCP"]
    assert "other settings" in answer["note"]


def test_who_else_wants_a_name_is_told() -> None:
    """Two services of one host: the first has it."""
    log = Log()
    other = ServiceKey("DEFAULT-GROUP", "svc")
    log.keyframe({KEY: [make()], other: [make("10.0.0.2")]})
    for key in (KEY, other):
        (one, *_) = explained(log, key)["wanted_by_several_the_first_has_it"]
        assert set(one["services"]) == {"DEFAULT_GROUP@@svc", "DEFAULT-GROUP@@svc"}


def test_a_service_that_is_not_there_is_not_found() -> None:
    """The command names what to look at."""
    log = Log()
    log.keyframe({KEY: [make()]})
    answer = explained(log, ServiceKey("g", "none"))
    assert (answer["found"], answer["instances"], answer["resource"]) == (False, [], "")


def test_help_has_an_example() -> None:
    """As that of every command."""
    result = CliRunner().invoke(app, ["explain", "--help"])
    assert result.exit_code == 0
    assert "Example: shiplog explain -n" in result.stdout
