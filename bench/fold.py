"""How many events a second one core decodes, folds and encodes as snapshot records.

One namespace, 2,000 services of 20 instances; each event changes the weight of one instance of one service,
chosen at random; batches as the materializer makes them under load. No Kafka: what is measured is the work.
"""

from __future__ import annotations

import itertools
import time

from bench.lag import NAMESPACE, SERVICES, changes
from consumers.materializer.fold import Fold
from consumers.materializer.fold_state import Touched
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings, GuardSettings
from producers.listener.session import Session
from runtime.lifecycle import settle_memory, tune_garbage_collector
from schemas.avro_codec import codecs
from schemas.events import Datacenter, SessionId

TOPIC = "shiplog.registry.events"


def run(*, quick: bool) -> None:
    """Prints events a second and the microseconds of each step, for several batch sizes."""
    tune_garbage_collector()  # as every process does
    records, first = make_log(4_000 if quick else 40_000)
    for batch in (1, 100, 1000, 5000, 20_000):
        report(records, first, batch)


def make_log(count: int) -> tuple[list[bytes], int]:
    """Encoded events: a keyframe, then changes; and how many the keyframe has."""
    codec = codecs().registry_event
    session = Session(datacenter=Datacenter("dc1"), partition=0, id=SessionId("s"), epoch=1)
    records: list[bytes] = []
    for body in itertools.islice(changes(), SERVICES + 2 + count):
        records.append(codec.encode(session.event(NAMESPACE, body, time.time_ns() // 1000)))
        session.taken()
    return records, SERVICES + 2


def report(records: list[bytes], first: int, batch: int) -> None:
    """Runs the whole log through, in batches, and prints where the time went."""
    c, settings = codecs(), ConversionSettings()
    fold, view = Fold(settings, GuardSettings()), NamespaceView(NAMESPACE, settings)
    for offset, record in enumerate(records[:first]):
        fold.apply(TOPIC, offset, c.registry_event.decode(record))
    changed = fold.state.changes[NAMESPACE]
    publish(view, fold, changed.dirty)
    settle_memory()
    changed.dirty = Touched()
    spent = dict.fromkeys(("decode", "fold", "view", "encode"), 0.0)
    end = min(len(records), first + 2000) if batch == 1 else len(records)
    for start in range(first, end, batch):
        clock = [time.perf_counter()]
        events = [c.registry_event.decode(record) for record in records[start : start + batch]]
        clock.append(time.perf_counter())
        for offset, event in enumerate(events, start=start):
            fold.apply(TOPIC, offset, event)
        clock.append(time.perf_counter())
        dirty, changed.dirty = changed.dirty, Touched()
        update = view.update(fold.state, dirty, Occasion("bench"))
        clock.append(time.perf_counter())
        if update is not None:
            for written in update.records.values():
                if written is not None:
                    c.resource.encode(written)
            c.manifest.encode(update.manifest)
            view.published(update)
        clock.append(time.perf_counter())
        for step, (begin, finish) in zip(spent, itertools.pairwise(clock), strict=True):
            spent[step] += finish - begin
    count = end - first
    steps = "  ".join(f"{step} {seconds / count * 1e6:5.1f} us" for step, seconds in spent.items())
    print(f"batches of {batch:5}: {count / sum(spent.values()):8,.0f} events/s   {steps}", flush=True)


def publish(view: NamespaceView, fold: Fold, dirty: Touched) -> None:
    """Takes the first snapshot as published."""
    update = view.update(fold.state, dirty, Occasion("bench"))
    if update is not None:
        view.published(update)
