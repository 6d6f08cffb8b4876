"""Short ways to fold and convert, for tests."""

from __future__ import annotations

from consumers.materializer.conversion import REVISION
from consumers.materializer.fold import Fold
from consumers.materializer.view import NamespaceView, Occasion, Update
from consumers.settings import ConversionSettings, GuardMode, GuardSettings
from producers.listener.observation import Observation
from schemas.events import (
    Datacenter,
    Instance,
    Namespace,
    RegistryBody,
    RegistryEvent,
    ServiceKey,
    ServiceState,
    SessionId,
    SyncCompleted,
    SyncStarted,
)
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

PUBLIC = Namespace("public")
TOPIC = "shiplog.registry.events"
_OFF = {"mode": GuardMode.OFF}
AT_ONCE = ConversionSettings(empty_grace_s=0)
"""Entries of services that are gone do not stay: most tests look at what is there now."""
UNGUARDED = GuardSettings.model_validate({"service": _OFF, "namespace": _OFF, "datacenter": _OFF, "head": _OFF})


def make(ip: str = "10.0.0.1", port: int = 8080, **changes: object) -> Instance:
    """An instance with these differences from an ordinary one."""
    facts: dict[str, object] = {
        "cluster": "DEFAULT", "weight": 1.0, "healthy": True, "enabled": True, "ephemeral": True, "metadata": {},
    }  # fmt: skip
    return Instance(ip=ip, port=port, **{**facts, **changes})  # type: ignore[arg-type]


def seen(*instances: Instance) -> Observation:
    """An observation of these, all of them visible."""
    return Observation(visible=instances)


class Log:
    """Builds events of one session, and folds them as they come."""

    def __init__(
        self,
        settings: ConversionSettings | None = None,
        datacenter: str = "dc1",
        guard: GuardSettings = UNGUARDED,
        revision: str = REVISION,
    ) -> None:
        self.settings = settings or AT_ONCE
        self.fold = Fold(self.settings, guard, revision)
        self.datacenter = Datacenter(datacenter)
        self.events: list[RegistryEvent] = []
        self.epoch = 1

    def add(self, body: RegistryBody, **changes: object) -> RegistryEvent:
        facts: dict[str, object] = {
            "datacenter": self.datacenter,
            "namespace": PUBLIC,
            "session": SessionId(f"session-{self.epoch}"),
            "epoch": self.epoch,
            "sequence": len([e for e in self.events if e.epoch == self.epoch]),
            "observed_at": len(self.events),
            "body": body,
        }
        event = RegistryEvent(**{**facts, **changes})  # type: ignore[arg-type]
        self.events.append(event)
        self.outcome = self.fold.apply(TOPIC, len(self.events) - 1, event)
        return event

    def keyframe(self, services: dict[ServiceKey, list[Instance]], threshold: float = 0.0) -> None:
        self.add(SyncStarted(reason="test"))
        for key, instances in services.items():
            self.add(ServiceState(key=key, instances=tuple(instances), protect_threshold=threshold))
        self.add(SyncCompleted(services=len(services), config_items=0))

    def snapshot(self) -> Update:
        view = NamespaceView(PUBLIC, self.settings)
        update = view.update_all(self.fold.state, Occasion("test"))
        assert update is not None
        return update

    def entries(self) -> dict[str, ServiceEntry]:
        return {
            name: ServiceEntry.FromString(record.body())
            for (_, name), record in self.snapshot().records.items()
            if record is not None
        }


def convert(
    instances: list[Instance], settings: ConversionSettings | None = None, threshold: float = 0.0
) -> ServiceEntry:
    """The ServiceEntry of one service with these instances."""
    log = Log(settings)
    log.keyframe({ServiceKey("DEFAULT_GROUP", "svc"): instances}, threshold)
    (entry,) = log.entries().values()
    return entry
