"""What the materializer's process does about engines that end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from consumers.errors import LogChangedError, StoppedError
from consumers.materializer import process, starts
from consumers.materializer.reporting import Status
from consumers.settings import ConversionSettings, MaterializerSettings
from runtime.backoff import Backoff
from runtime.errors import PartFailedError, SettingsError
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.errors import SchemaRegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = Status({}, {}, "")


class World:
    """Engines that end as the script says, one after the other; the last one runs until it is stopped."""

    def __init__(self, *script: BaseException) -> None:
        self.script = list(script)
        self.made_anew: list[frozenset[str]] = []
        self.closed = 0
        self.members = 0
        self.missing: frozenset[str] = frozenset()
        self.stop = threading.Event()
        self.readiness: list[dict[str, str]] = []
        self.stale: list[dict[str, str]] = []
        self.committed_by: set[int] = set()


@pytest.fixture
def materializing(monkeypatch: pytest.MonkeyPatch) -> Callable[[World], None]:
    """Runs a process whose engines are the world's, until it ends or all of the script is played."""

    def run(world: World) -> None:
        class Engine:
            def __init__(self, *_: Any, **options: Any) -> None:
                self.number = len(world.made_anew)
                world.made_anew.append(frozenset(options["made_anew"]))
                if self.number in world.committed_by:
                    options["made_anew"].clear()
                self.turn = options["patience"].turn

            def run(self, report: Callable[[Status], None]) -> None:
                world.readiness.append(materializer._readiness.missing)
                world.stale.append(materializer._readiness.stale)
                self.turn()
                if world.script:
                    raise world.script.pop(0)
                report(STATUS)
                world.readiness.append(materializer._readiness.missing)
                world.stop.set()
                raise StoppedError

            def close(self) -> None:
                world.closed += 1

        class Watch:
            @property
            def missing(self) -> frozenset[str]:
                return world.missing

            def __init__(self, *_: Any, **__: Any) -> None:
                """Asks nobody."""

            def look(self) -> None:
                """Nothing is seen."""

        class Group:
            def __init__(self, *_: Any) -> None:
                """Asks nobody."""

            def has_member(self, _: str) -> bool:
                world.members -= 1
                return world.members >= 0

        class Admin:
            def __init__(self, *_: Any) -> None:
                """Listens on nothing."""

            def start(self) -> None:
                """It does not."""

            stop = start

        monkeypatch.setattr(process, "Engine", Engine)
        monkeypatch.setattr(process, "TopicWatch", Watch)
        monkeypatch.setattr(process, "Group", Group)
        monkeypatch.setattr(process, "AdminServer", Admin)
        monkeypatch.setattr(process, "check_topics", lambda *_: None)
        monkeypatch.setattr(process, "_NAMESAKE_S", 0.05)
        monkeypatch.setattr(starts, "Backoff", lambda **_: Backoff(first_s=0.01, max_s=0.02))
        materializer = process.Materializer(
            kafka=KafkaSettings(),
            topics=TopicsSettings(),
            settings=MaterializerSettings(instance="x"),
            conversion=ConversionSettings(),
        )
        materializer.run(world.stop)

    return run


def kafka_error(code: int) -> KafkaException:
    """As Kafka's client raises it."""
    return KafkaException(KafkaError(code))


def test_another_engine_follows_one_that_kafka_ended(materializing: Callable[[World], None]) -> None:
    """Not ready meanwhile, with the reason and the remedy; each engine is closed."""
    world = World(kafka_error(KafkaError._TRANSPORT), kafka_error(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    world.missing = frozenset({"shiplog.snapshots"})
    materializing(world)
    assert world.closed == 3
    assert "no partition held yet" in world.readiness[0]["partitions"]
    assert "_TRANSPORT" in world.readiness[1]["partitions"]
    assert "grant the materializer READ" in world.readiness[2]["partitions"]
    assert "missing topics: shiplog.snapshots" in world.readiness[2]["partitions"]
    assert "shiplog topics ensure" in world.stale[1]["topics"]
    assert world.readiness[3] == {}, "ready again"


def test_faults_of_ours_in_a_row_end_the_process(materializing: Callable[[World], None]) -> None:
    """With a text for a person; its supervisor starts it anew."""
    world = World(*[ValueError(f"fault {number}") for number in range(9)])
    with pytest.raises(PartFailedError, match="the engine ended \\(ValueError: fault 4\\)"):
        materializing(world)
    assert world.closed == 5


def test_a_schema_registry_that_is_away_does_not_end_the_process(
    materializing: Callable[[World], None],
) -> None:
    """However long: it is no fault of ours."""
    world = World(*[SchemaRegistryError("schema registry, GET /schemas: refused")] * 9)
    materializing(world)
    assert world.closed == 10
    assert "see schema_registry.url" in world.readiness[1]["partitions"]


def test_settings_that_can_not_be_used_end_the_process_at_once(materializing: Callable[[World], None]) -> None:
    """They are for a person, and no other engine would mend them."""
    world = World(SettingsError("kafka.sasl_password_file: cannot read it"))
    with pytest.raises(SettingsError):
        materializing(world)
    assert world.closed == 1


def test_topics_that_were_made_anew_are_known_until_that_is_committed(
    materializing: Callable[[World], None],
) -> None:
    """An engine that ends before it has committed leaves it to the next."""
    world = World(
        LogChangedError({"a"}, "made anew"),
        kafka_error(KafkaError._TRANSPORT),
        LogChangedError({"b"}, "made anew"),
        kafka_error(KafkaError._TRANSPORT),
    )
    world.committed_by = {2, 3}
    materializing(world)
    assert world.made_anew == [frozenset(), {"a"}, {"a"}, {"b"}, frozenset()]


def test_a_process_whose_name_was_taken_waits_until_it_is_free(materializing: Callable[[World], None]) -> None:
    """Two that fence each other would both stand still."""
    world = World(kafka_error(KafkaError.FENCED_INSTANCE_ID))
    world.members = 3
    materializing(world)
    assert world.members == -1
    assert "materializer.instance" in world.readiness[1]["partitions"]
