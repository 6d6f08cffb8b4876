"""The local stack: what it consists of, the order in which it starts and ends."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import httpx

from runtime.kafka_topics import TopicKeeper
from schemas.topics import topic_settings
from shiplog.errors import StackError
from shiplog.local_stack import kafka_broker, nacos_server
from shiplog.local_stack.child import Child
from shiplog.local_stack.jars import bring_jars
from shiplog.local_stack.prerequisites import require_free_port, require_java

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.settings import KafkaSettings, TopicsSettings
    from shiplog.settings import Settings

PROCESSES = ("listener", "materializer", "gateway")
_COMMANDS = {"listener": "listen", "materializer": "materialize", "gateway": "gateway"}
_READY_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 4.0
_PROGRESS_S = 5.0
"""For so long nothing is said of a process that is not ready yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What to start; `nacos` and `kafka` name existing ones that are used instead."""

    data_dir: Path
    jars_dir: Path
    nacos: str | None = None
    kafka: str | None = None
    nacos_port: int = 8848
    kafka_port: int = 9092
    gateway_port: int = 9901
    listener_admin_port: int = 9912
    materializer_admin_port: int = 9913
    gateway_admin_port: int = 9911
    fresh: bool = False
    demo: bool = True


@dataclass(slots=True)
class LocalStack:
    """Children in the order in which they were started; they end in the other order.

    `tell` is called with one line of progress at a time.
    """

    options: StackOptions
    settings: Settings
    tell: Callable[[str], None]
    children: dict[str, Child] = field(default_factory=dict)

    @property
    def kafka_servers(self) -> str:
        """Where Kafka is."""
        return self.options.kafka or f"127.0.0.1:{self.options.kafka_port}"

    @property
    def nacos_url(self) -> str:
        """Where Nacos is."""
        return self.options.nacos or f"http://127.0.0.1:{self.options.nacos_port}"

    @property
    def topics(self) -> TopicsSettings:
        """How topics are made: a Kafka that is started here is one broker, which keeps one copy."""
        if self.options.kafka is not None:
            return self.settings.topics
        return self.settings.topics.model_copy(update={"replication_factor": 1, "min_insync_replicas": 1})

    def _kafka(self) -> KafkaSettings:
        # A Kafka that is started here knows no logins, whatever the settings say of another one.
        ours = {"servers": self.kafka_servers} | ({} if self.options.kafka else {"security_protocol": "PLAINTEXT"})
        return self.settings.kafka.model_copy(update=ours)

    def addresses(self) -> dict[str, str]:
        """Where everything can be found."""
        options = self.options
        return {
            "nacos": self.nacos_url,
            "kafka": self.kafka_servers,
            "gateway": f"127.0.0.1:{options.gateway_port}",
            "listener_admin": f"http://127.0.0.1:{options.listener_admin_port}",
            "materializer_admin": f"http://127.0.0.1:{options.materializer_admin_port}",
            "gateway_admin": f"http://127.0.0.1:{options.gateway_admin_port}",
            "data_dir": str(options.data_dir.absolute()),
        }

    def check(self) -> None:
        """Checks programs and ports before anything is started; raises PrerequisiteError."""
        options = self.options
        if options.kafka is None or options.nacos is None:
            require_java()
        ports = {options.gateway_port: ("the gateway", "--gateway-port")}
        for name in PROCESSES:
            ports[self.admin_port(name)] = (f"the {name}'s admin pages", f"--{name}-admin-port")
        if options.kafka is None:
            ports[options.kafka_port] = ("Kafka", "--kafka-port")
            ports[options.kafka_port + 1] = ("Kafka's controller (Kafka's port + 1)", "--kafka-port")
        if options.nacos is None:
            for port, purpose in nacos_server.ports_of(options.nacos_port).items():
                ports[port] = (purpose, "--nacos-port")
        for port, (purpose, option) in ports.items():
            require_free_port(port, purpose, option)

    def start(self) -> None:
        """Starts everything and waits until the gateway serves.

        Raises:
            StackError: a part does not start; its log is named and its end shown.
        """
        if self.options.fresh:
            for part in ("kafka", "nacos", "logs"):
                shutil.rmtree(self.options.data_dir / part, ignore_errors=True)
        self.start_kafka()
        self.start_nacos()
        self.ensure_topics()
        if self.options.demo:
            self._start_demo()
        for name in PROCESSES:
            self.start_process(name)
        for name in PROCESSES:
            self.wait_for(name)

    def start_kafka(self) -> None:
        """Starts Kafka unless an existing one is used; the other parts may start meanwhile."""
        options = self.options
        if options.kafka is not None:
            return
        jars = bring_jars("kafka", options.jars_dir)
        self.tell(f"starting Kafka on port {options.kafka_port}")
        broker = kafka_broker.kafka_broker(
            jars=jars,
            data=(options.data_dir / "kafka").absolute(),
            port=options.kafka_port,
            controller_port=options.kafka_port + 1,
            log=options.data_dir / "logs" / "kafka.log",
        )
        self._start(broker, "kafka")

    def start_nacos(self) -> None:
        """Starts Nacos unless an existing one is used."""
        options = self.options
        if options.nacos is not None:
            if not nacos_server.answers(options.nacos):
                raise StackError(f"Nacos at {options.nacos} does not answer; see --nacos")
            return
        jars = bring_jars("nacos", options.jars_dir)
        self.tell(f"starting Nacos on port {options.nacos_port} (takes 10 to 20 s)")
        server = nacos_server.nacos_server(
            jars=jars,
            home=(options.data_dir / "nacos").absolute(),
            port=options.nacos_port,
            log=options.data_dir / "logs" / "nacos.log",
        )
        self._start(server, "nacos")

    def ensure_topics(self) -> None:
        """Waits for Kafka and Nacos, and makes the topics."""
        if "kafka" in self.children:
            self.children["kafka"].wait_until(
                lambda: kafka_broker.answers(self.options.kafka_port), timeout_s=kafka_broker.READY_TIMEOUT_S
            )
        keeper = TopicKeeper(self._kafka(), self.topics)
        wanted = topic_settings(event_retention_days=self.topics.event_retention_days)
        created = keeper.ensure(wanted)
        for finding in keeper.check(wanted):
            self.tell(f"warning: {finding}")
        self.tell(f"Kafka is ready; {len(created)} topics created")
        if "nacos" in self.children:
            self.children["nacos"].wait_until(
                lambda: nacos_server.answers(self.nacos_url), timeout_s=nacos_server.READY_TIMEOUT_S
            )
            self.tell("Nacos is ready")

    def start_process(self, name: str) -> None:
        """Starts one of shiplog's processes."""
        child = Child(
            name=f"the {name}",
            command=[sys.executable, "-m", "shiplog", _COMMANDS[name]],
            log=self.options.data_dir / "logs" / f"{name}.log",
            environment=self._environment(name),
        )
        self._start(child, name)

    def wait_for(self, name: str) -> None:
        """Waits until a process is ready."""
        port = self.admin_port(name)
        told_at, told = time.monotonic(), ""

        def is_ready() -> bool:
            nonlocal told_at, told
            state = state_of(port)
            if not state.is_ready and time.monotonic() - told_at > _PROGRESS_S:
                told_at = time.monotonic()
                if state.waiting_for != told:
                    told = state.waiting_for
                    self.tell(f"the {name} is not ready yet: {told or 'it does not answer'}")
            return state.is_ready

        self.children[name].wait_until(is_ready, timeout_s=_READY_TIMEOUT_S, reason=lambda: self.reasons(name))
        self.tell(f"the {name} is ready")

    def reasons(self, name: str) -> str:
        """What a process waits for, and what those before it wait for, on which it may depend."""
        before = PROCESSES[: PROCESSES.index(name) + 1]
        waiting = {one: state_of(self.admin_port(one)).waiting_for for one in before}
        return "; ".join(f"the {one} waits for {reason}" for one, reason in waiting.items() if reason)

    def restart_ended(self) -> list[str]:
        """Restarts those of shiplog's processes that ended; their names.

        Raises:
            StackError: Kafka or Nacos ended.
        """
        ended = [name for name, child in self.children.items() if not child.running]
        for name in ended:
            child = self.children[name]
            if name in {"kafka", "nacos"}:
                raise StackError(f"{child.name} ended; the end of {child.log}:\n{child.log_tail()}")
            child.start()
        return ended

    def stop(self) -> None:
        """Ends all children within 10 s: shiplog's processes first, Kafka and Nacos at last."""
        ours = [child for name, child in self.children.items() if name not in {"kafka", "nacos"}]
        theirs = [child for name, child in self.children.items() if name in {"kafka", "nacos"}]
        for children in (ours, theirs):
            for child in children:
                child.terminate()
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            for child in children:
                child.stop(max(0.1, deadline - time.monotonic()))

    def _start_demo(self) -> None:
        child = Child(
            name="the demo",
            command=[sys.executable, "-m", "shiplog.local_stack.demo", self.nacos_url],
            log=self.options.data_dir / "logs" / "demo.log",
        )
        self._start(child, "demo")

    def _start(self, child: Child, name: str) -> None:
        child.start()
        self.children[name] = child

    def admin_port(self, name: str) -> int:
        """Where the process has its admin pages."""
        return {
            "listener": self.options.listener_admin_port,
            "materializer": self.options.materializer_admin_port,
            "gateway": self.options.gateway_admin_port,
        }[name]

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "SHIPLOG_KAFKA__SERVERS": self.kafka_servers,
            "SHIPLOG_KAFKA__SECURITY_PROTOCOL": self._kafka().security_protocol,
            "SHIPLOG_NACOS__SERVERS": f'["{self.nacos_url}"]',
            "SHIPLOG_GATEWAY__PORT": str(self.options.gateway_port),
            # What runs on this machine may register itself at 127.0.0.1.
            "SHIPLOG_CONVERSION__ALLOW_LOCAL_ADDRESSES": "true",
            f"SHIPLOG_{name.upper()}__ADMIN__PORT": str(self.admin_port(name)),
            "SHIPLOG_TOPICS__REPLICATION_FACTOR": str(self.topics.replication_factor),
            "SHIPLOG_TOPICS__MIN_INSYNC_REPLICAS": str(self.topics.min_insync_replicas),
        }


class ProcessState(NamedTuple):
    """What a process says of itself: what it waits for, and what of its data is stale; empty where nothing is."""

    is_ready: bool = False
    waiting_for: str = ""
    stale: str = ""


def state_of(port: int) -> ProcessState:
    """The state of the process with that admin port; not ready where it does not answer."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2)
        says = answer.json()
        waiting_for, stale = ("; ".join(map(str, says[name].values())) for name in ("waiting_for", "stale"))
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return ProcessState()
    return ProcessState(answer.status_code == httpx.codes.OK, waiting_for, stale)
