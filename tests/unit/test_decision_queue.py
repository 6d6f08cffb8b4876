"""In which order decisions are carried out, and what a pin that is being rebuilt keeps waiting."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from consumers.errors import NotRebuiltError
from consumers.materializer import deciding
from consumers.materializer.decision_queue import CarryOut, DecisionQueue, Refuse
from consumers.settings import ConversionSettings, GuardSettings
from runtime.settings import KafkaSettings
from runtime.supervision import Supervisor
from schemas.avro_codec import codecs
from schemas.control import ControlEvent, Freeze, Pin, Unfreeze, Unpin
from schemas.events import Namespace

if TYPE_CHECKING:
    import pytest

    from schemas.control import ControlBody

PIN = Pin(version={"t": 1})


@dataclass
class Rebuild:
    """What is rebuilt, as the test wants it."""

    result: dict | NotRebuiltError | None = None
    abandoned: bool = False

    def abandon(self) -> None:
        self.abandoned = True


class Desk:
    """A queue, and the rebuilds that it began."""

    def __init__(self) -> None:
        self.rebuilds: list[Rebuild] = []
        self.queue = DecisionQueue(self._rebuild)
        self.offset = 0
        self.is_full = False

    def _rebuild(self, *_: object) -> Rebuild | None:
        if self.is_full:
            return None
        self.rebuilds.append(Rebuild())
        return self.rebuilds[-1]

    def add(self, body: ControlBody, namespace: str = "a") -> None:
        event = ControlEvent(namespace=Namespace(namespace), author="", reason="", issued_at=0, body=body)
        self.queue.add(self.offset, event)
        self.offset += 1

    def taken(self, reason: str | None = None) -> list[tuple[type, int]]:
        """All that can be carried out or refused now."""
        found = []
        while (one := self.queue.take(lambda *_: reason)) is not None:
            found.append((type(one), one.offset))
        return found


def test_decisions_are_carried_out_in_their_order() -> None:
    """And nothing is left waiting."""
    desk = Desk()
    desk.add(Freeze())
    desk.add(Unfreeze())
    desk.add(Freeze(), "b")
    assert desk.taken() == [(CarryOut, 0), (CarryOut, 1), (CarryOut, 2)]
    assert desk.queue.first_waiting() is None


def test_a_pin_keeps_only_its_own_namespace_waiting() -> None:
    """Until its version is rebuilt; what the group commits stays before it, so that a restart begins it again."""
    desk = Desk()
    desk.add(PIN)
    desk.add(Freeze())
    desk.add(Freeze(), "b")
    assert desk.taken() == [(CarryOut, 2)]
    assert desk.queue.first_waiting() == 0
    desk.rebuilds[0].result = {}
    assert desk.taken() == [(CarryOut, 0), (CarryOut, 1)]
    assert len(desk.rebuilds) == 1


def test_an_unpin_overtakes_a_pin_that_is_not_rebuilt_yet() -> None:
    """The rebuild is given up, the pin is refused with a reason, the unpin is carried out."""
    desk = Desk()
    desk.add(PIN)
    assert desk.taken() == []
    desk.add(Unpin())
    assert desk.taken() == [(Refuse, 0), (CarryOut, 1)]
    assert desk.rebuilds[0].abandoned


def test_a_later_pin_takes_the_place_of_an_earlier_one() -> None:
    """Only the later one is rebuilt to its end."""
    desk = Desk()
    desk.add(PIN)
    assert desk.taken() == []
    desk.add(PIN)
    assert desk.taken() == [(Refuse, 0)]
    assert [rebuild.abandoned for rebuild in desk.rebuilds] == [True, False]


def test_a_version_that_can_not_be_rebuilt_is_refused() -> None:
    """With the reason; what waited behind it goes on."""
    desk = Desk()
    desk.add(PIN)
    desk.add(Freeze())
    assert desk.taken() == []
    desk.rebuilds[0].result = NotRebuiltError("its events are gone")
    refused = desk.queue.take(lambda *_: None)
    assert isinstance(refused, Refuse)
    assert refused.reason == "its events are gone"
    assert desk.taken() == [(CarryOut, 1)]


def test_what_was_carried_out_before_a_restart_is_not_again() -> None:
    """It comes again from the log, and is passed over without a word."""
    desk = Desk()
    desk.add(Freeze())
    desk.add(PIN)
    assert desk.taken(reason="") == [(Refuse, 0), (Refuse, 1)]
    assert desk.rebuilds == []


def test_a_partition_that_is_given_up_gives_up_its_rebuilds() -> None:
    """Whoever has it next begins them again."""
    desk = Desk()
    desk.add(PIN)
    assert desk.taken() == []
    desk.queue.abandon()
    assert desk.rebuilds[0].abandoned


def test_a_pin_that_finds_no_room_is_begun_later() -> None:
    """What waits behind it waits on; what supersedes it meanwhile spares the rebuild."""
    desk = Desk()
    desk.is_full = True
    for body, namespace in ((PIN, "a"), (Freeze(), "a"), (PIN, "b")):
        desk.add(body, namespace)
    assert desk.taken() == []
    assert [one["rebuilding"] for one in desk.queue.describe()] == [False] * 3
    desk.add(Unpin(), "b")
    assert desk.taken() == [(Refuse, 2), (CarryOut, 3)]
    desk.is_full = False
    assert desk.taken() == []
    desk.rebuilds[0].result = {}
    assert desk.taken() == [(CarryOut, 0), (CarryOut, 1)]


def test_two_versions_are_rebuilt_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all partitions of the process together; an abandoned one counts until it ends."""
    begun: list[Any] = []

    def rebuilding(*_: object, **what: object) -> Any:
        begun.append(SimpleNamespace(is_running=True, result=None, abandon=lambda: None, **what))
        return begun[-1]

    monkeypatch.setattr(deciding, "Rebuilding", rebuilding)
    desk = deciding.Deciding(KafkaSettings(), codecs(), ConversionSettings(), GuardSettings(), Supervisor())
    partition: Any = SimpleNamespace(refusal=lambda *_: None, decide=lambda *_: [], take_view_faults=list)
    partitions = {0: partition, 1: partition}
    for number in partitions:
        desk.begin(number)
        for offset in range(3):
            event = ControlEvent(namespace=Namespace(f"n{offset}"), author="", reason="", issued_at=0, body=PIN)
            desk.take(number, offset, codecs().control_event.encode(event))
    for done in range(6):
        desk.carry_out(partitions, lambda *_: None)
        assert len(begun) == min(done + 2, 6)
        begun[done].result, begun[done].is_running = {}, False
    desk.carry_out(partitions, lambda *_: None)
    assert not any(desk.waiting().values())
