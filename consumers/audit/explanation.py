"""Why a service's ServiceEntry is as it is: which instances are endpoints, which rule set what. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion import SERVICE_ENTRIES, revision_of
from consumers.materializer.conversion.folded_instance import ENABLED, HEALTHY, SET_ASIDE, UNUSABLE
from consumers.materializer.conversion.rules import rules_of
from consumers.materializer.decisions import stands
from consumers.materializer.held_service import HeldService
from consumers.materializer.replay import Replay
from schemas.events import ServiceDelta, ServicePart, ServiceState
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.materializer.candidates import SetAside
    from consumers.materializer.conversion.folded_instance import FoldedInstance
    from consumers.settings import ConversionSettings, GuardSettings
    from schemas.events import Datacenter, Instance, InstanceKey, RegistryEvent, ServiceKey
    from schemas.records import Manifest, ResourceRecord

    Services = dict[Datacenter, HeldService]


class Explanation:
    """Follows the events that a manifest is made of, as `Replay`, and explains one service of its namespace."""

    def __init__(
        self, conversion: ConversionSettings, guard: GuardSettings, manifest: Manifest, key: ServiceKey
    ) -> None:
        self._settings = conversion
        self._guard = guard
        self._manifest = manifest
        self._key = key
        self._replay = Replay(conversion, guard, manifest)
        self._stated: dict[tuple[Datacenter, InstanceKey], Instance] = {}

    def apply(self, topic: str, offset: int, event: RegistryEvent) -> None:
        """Folds in an event, and remembers what it says of the service's instances."""
        self._replay.apply(topic, offset, event)
        if event.namespace != self._manifest.namespace:
            return
        match event.body:
            case ServiceState(key=key) | ServicePart(key=key) if key == self._key:
                self._note(event.datacenter, event.body.instances)
            case ServiceDelta(key=key) if key == self._key:
                self._note(event.datacenter, event.body.upserts)
            case _:
                return

    def _note(self, datacenter: Datacenter, instances: tuple[Instance, ...]) -> None:
        for instance in instances:
            self._stated[datacenter, instance.key] = instance

    def answer(self) -> dict[str, Any]:
        """What there is to say, for people: plain values, lists of rows; `found` is False for no such service."""
        _, records = self._replay.snapshot()
        state, namespace, key = self._replay.state, self._manifest.namespace, self._key
        services: Services = {}
        for datacenter, there in state.counted(namespace).items():
            held = state.held(datacenter, namespace, key)
            if (service := there.services.get(key)) is not None or held:
                empty = state.converter.new_service(self._settings, namespace, key)
                services[datacenter] = HeldService(
                    service or empty, held, state.kept_head(datacenter, namespace, key)
                )
        name = self._replay.view.name_of(key)
        record = None if name is None else records.get((SERVICE_ENTRIES, name.resource))
        answer: dict[str, Any] = {
            "namespace": namespace,
            "service": f"{key.group}@@{key.service}",
            "converter": self._manifest.converter,
            "note": self._caveat(),
            "found": bool(services),
            "resource": "" if record is None else record.name,
        }
        if record is not None:
            answer |= _entry(record)
        rivals = {wanted: list(who) for wanted, who in self._replay.view.rivals.items() if key_text(key) in who}
        answer["wanted_by_several_the_first_has_it"] = [
            {"name": wanted, "services": who} for wanted, who in sorted(rivals.items())
        ]
        answer["config_items_that_state_it"] = sorted(
            str(who)
            for (_, resource), claimants in self._replay.view.conflicts.items()
            if name is not None and resource == name.resource
            for who in claimants
        )
        answer["rules_that_match"] = self._rules()
        set_aside: dict[tuple[Datacenter, InstanceKey], SetAside] = {}
        if name is not None and services and not all(one.is_empty for one in services.values()):
            joined = state.converter.service_entry(self._settings, namespace, name, services)
            set_aside = {(one.datacenter, one.key): one for one in joined.set_aside}
        answer["instances"] = list(self._instances(services, set_aside))
        return answer

    def _caveat(self) -> str:
        """Where what is published may be something else."""
        if revision_of(self._manifest.converter, self._settings, self._guard) is None:
            return "published with other settings, or by another revision: this is what these settings give"
        if stands(self._manifest.decisions):
            return "the namespace is frozen or pinned: what is published stands, this is what the log gives"
        return ""

    def _rules(self) -> list[dict[str, Any]]:
        """The rules that match the service or some of its instances, in their order."""
        rules = rules_of(self._settings.rules, self._manifest.namespace, self._key)
        return [
            {
                "rule": one.number,
                "for": "its instances with " + one.rule.match.model_dump_json(exclude_defaults=True)
                if one.rule.match.is_of_instances
                else "all of it",
                "sets": one.rule.set.model_dump_json(exclude_unset=True),
            }
            for one in (rules.matching if rules else ())
        ]

    def _instances(
        self, services: Services, set_aside: dict[tuple[Datacenter, InstanceKey], SetAside]
    ) -> Iterator[dict[str, Any]]:
        rules = rules_of(self._settings.rules, self._manifest.namespace, self._key)
        for datacenter, (service, held, _) in services.items():
            listed = {key for key, _ in service.listed_by_key()}
            for key, instance in sorted(service.instances.items()):
                why = set_aside.get((datacenter, key))
                is_listed = key in listed and why is None
                stated = self._stated.get((datacenter, key))
                matching = rules.matching_instance(datacenter, stated.metadata) if rules and stated else ()
                yield {
                    "address": f"{key.ip}:{key.port}",
                    "cluster": key.cluster,
                    "datacenter": datacenter,
                    "listed": "yes" if is_listed else "no",
                    "why_not": "" if is_listed else str(why.why) if why else _why_not(instance),
                    "weight": None if stated is None else stated.weight,
                    "rules": ", ".join(str(one.number) for one in matching),
                }
            for key in sorted(held.keys() - service.instances.keys()):
                yield {
                    "address": f"{key.ip}:{key.port}",
                    "cluster": key.cluster,
                    "datacenter": datacenter,
                    "listed": "held by the guard",
                    "why_not": "",
                    "weight": None,
                    "rules": "",
                }


def key_text(key: ServiceKey) -> str:
    """A service as conflicts name it."""
    return f"{key.group}@@{key.service}"


def _why_not(instance: FoldedInstance) -> str:
    """Why an instance is not given out by Nacos either."""
    if instance.flags & UNUSABLE:
        return "its port or weight is none"
    if not instance.flags & ENABLED:
        return "disabled"
    if instance.flags & SET_ASIDE:
        return "set aside"
    return "weight 0" if instance.flags & HEALTHY else "unhealthy"


def _entry(record: ResourceRecord) -> dict[str, Any]:
    entry = ServiceEntry.FromString(record.body())
    return {
        "hosts": list(entry.hosts),
        "ports": [f"{port.name} {port.number}/{port.protocol}" for port in entry.ports],
        "addresses": list(entry.addresses),
        "resolution": ServiceEntry.Resolution.Name(entry.resolution),
        "location": ServiceEntry.Location.Name(entry.location),
        "export_to": list(entry.export_to),
        "endpoints": len(entry.endpoints),
    }
