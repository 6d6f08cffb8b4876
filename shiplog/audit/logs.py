"""Opens the log for a command, and says what is wrong when it can't be read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from consumers.audit.namespace_log import NamespaceLog
from consumers.errors import NotRebuiltError
from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import make_admin, partitions_of
from runtime.kafka_permissions import explain
from schemas.avro_codec import codecs
from schemas.events import Namespace
from schemas.topics import SNAPSHOT_HISTORY
from shiplog.audit.times import format_ms
from shiplog.control.versions import is_named, no_such_version
from shiplog.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.audit.logged import Published
    from shiplog.settings import Settings


@contextmanager
def readable(settings: Settings) -> Iterator[None]:
    """Turns Kafka's errors, and a log that begins too late, into errors for people."""
    try:
        yield
    except KafkaException as error:
        raise KafkaUnusableError(
            f"Kafka at {settings.kafka.servers}: {explain(settings.kafka, error.args[0])}"
        ) from error
    except NotRebuiltError as error:
        raise CommandError(str(error)) from error


@contextmanager
def open_namespace(settings: Settings, namespace: str) -> Iterator[NamespaceLog]:
    """The log of one namespace."""
    with readable(settings), make_log(settings, namespace, partition_count(settings)) as log:
        yield log


def make_log(settings: Settings, namespace: str, partitions: int) -> NamespaceLog:
    """The log of one namespace, to be closed by whoever asks for it."""
    return NamespaceLog(
        settings.kafka,
        codecs(settings.registry()),
        Namespace(namespace),
        partitions=partitions,
        conversion=settings.conversion,
        guard=settings.materializer.guard,
    )


def partition_count(settings: Settings) -> int:
    """How many partitions the history has."""
    return len(partitions_of(make_admin(settings.kafka, "shiplog-audit"), settings.kafka, SNAPSHOT_HISTORY))


def version_at(log: NamespaceLog, time_ms: int) -> Published:
    """The version that stood at a moment.

    Raises:
        CommandError: none did, or the history no longer says.
    """
    found = log.at(time_ms)
    if found is None:
        earliest = log.earliest_ms()
        known = "it has no history" if earliest is None else f"its history begins at {format_ms(earliest)}"
        raise CommandError(f"{log.namespace}: nothing is known of {format_ms(time_ms)}: {known}")
    return found


def version_named(log: NamespaceLog, text: str) -> Published:
    """The newest version that a text names, see `is_named`.

    Raises:
        CommandError: there is none.
    """
    found = None
    for one in log.published():
        if is_named(text, one.manifest):
            found = one
    if found is None:
        raise no_such_version(text)
    return found
