"""Says that a command waits for Kafka: without a word it would look as if it hung."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from runtime.kafka_clients import make_admin

if TYPE_CHECKING:
    from runtime.settings import KafkaSettings

_FIRST_LOOK_S = 1.0
_LOOK_S = 1.0


def tell_where_kafka_is_awaited(kafka: KafkaSettings) -> None:
    """From now on a thread looks whether Kafka answers, and says so on stderr, once, if it does not for 2 s.

    It asks by itself, so that no step of a command needs to report. A command that is done sooner pays nothing.
    """
    threading.Thread(target=_look, args=(kafka,), name="look for kafka", daemon=True).start()


def _look(kafka: KafkaSettings) -> None:
    time.sleep(_FIRST_LOOK_S)
    heard: list[str] = []
    admin = make_admin(kafka, "shiplog-waiting", {"error_cb": lambda error: heard.append(error.str())})
    try:
        admin.describe_cluster(request_timeout=_LOOK_S).result(_LOOK_S + 1)  # needs no permission
    except (KafkaException, TimeoutError):
        admin.poll(0)
        reason = f" ({heard[-1]})" if heard else ""
        sys.stderr.write(f"shiplog: waiting for Kafka at {kafka.servers}{reason}; see kafka.servers\n")
        sys.stderr.flush()
