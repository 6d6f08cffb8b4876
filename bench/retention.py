"""What the log costs: bytes of a keyframe, of a change, of a delivery, and what that comes to in 30 days."""

from __future__ import annotations

from schemas.avro_codec import codecs
from schemas.events import (
    Datacenter,
    Instance,
    Link,
    Namespace,
    RegistryBody,
    RegistryEvent,
    ServiceDelta,
    ServiceKey,
    ServiceState,
    SessionId,
)
from schemas.records import Change, ChangeKind, Delivery, DeliveryKind, Manifest

SERVICE = ServiceKey("DEFAULT_GROUP", "checkout-service")
ENTRIES = "istio/networking/v1alpha3/serviceentries"
TOPIC = "shiplog.registry.events"
INSTANCES = 10
_OVERHEAD = 70
"""Kafka's own, of a record with its key in a small batch, before compression."""
_DAYS = 30 * 86_400


def run(*, quick: bool) -> None:  # noqa: ARG001 - it takes no time
    """Prints sizes before compression."""
    state = _event(ServiceState(key=SERVICE, instances=tuple(_instance(one) for one in range(INSTANCES))))
    delta = _event(
        ServiceDelta(key=SERVICE, upserts=(_instance(1),), removals=(), count=INSTANCES, digest=1 << 60)
    )
    change = delta + _manifest() + 2 * _OVERHEAD
    delivery = _delivery(DeliveryKind.SENT) + _delivery(DeliveryKind.ACK) + 2 * _OVERHEAD
    keyframe = (state + _OVERHEAD) / INSTANCES
    print(f"    a keyframe: {keyframe:.0f} bytes an instance; 4 a day of 1,000,000: {keyframe * 120 / 1e3:.1f} GB")
    print(f"    a change: {change} bytes; 100 a second: {change * 100 * _DAYS / 1e9:.0f} GB")
    print(
        f"    a delivery and its answer: {delivery} bytes; 1,000 a second: {delivery * 1000 * _DAYS / 1e9:,.0f} GB"
    )


def _instance(number: int) -> Instance:
    return Instance(
        ip=f"10.1.{number}.7",
        port=8080,
        cluster="DEFAULT",
        weight=1.0,
        healthy=True,
        enabled=True,
        ephemeral=True,
        metadata={"version": "v1", "rev": str(number)},
    )


def _event(body: RegistryBody) -> int:
    event = RegistryEvent(
        datacenter=Datacenter("dc1"),
        namespace=Namespace("orders"),
        session=SessionId("1b1dd1b2018945ac8da54fbc8769871b"),
        epoch=1,
        sequence=5,
        observed_at=1_795_471_347_779_000,
        body=body,
    )
    return len(codecs().registry_event.encode(event))


def _manifest() -> int:
    change = Change(
        kind=ChangeKind.CHANGED, collection=ENTRIES, name="orders/checkout-service.default-group.orders"
    )
    manifest = Manifest(
        namespace=Namespace("orders"),
        version={TOPIC: 123_456},
        digest="d" * 32,
        resources=1000,
        added=0,
        changed=1,
        removed=0,
        changes=(change,),
        reason="events",
        converter="1-719858c2",
        observed_at=1_795_471_347_779_000,
        links={"dc1": Link.LIVE},
        recover_from={TOPIC: 12_345},
        folded_to={TOPIC: 123_456},
    )
    return len(codecs().manifest.encode(manifest))


def _delivery(kind: DeliveryKind) -> int:
    delivery = Delivery(
        pilot="spiffe://cluster.local/ns/istio-system/sa/istiod",
        address="ipv4:10.20.30.40:51234",
        node="istiod-7f6d9-abcde",
        gateway="gw-fra-1",
        view="default",
        protocol="ads",
        collection=ENTRIES,
        version="v" * 32,
        kind=kind,
        bytes=17_000_000,
        code=0,
        message="",
        at=1_795_471_347_779_000,
        folded_to={f"{TOPIC}-{number}": 123_456 for number in range(8)} if kind is DeliveryKind.SENT else {},
        stream="6ad-77",
    )
    return len(codecs().delivery.encode(delivery))
