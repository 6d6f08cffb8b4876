"""What Nacos sends, as JSON from the wire: any field of a push filled with whatever JSON can say."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.fold import Outcome
from producers.errors import NacosGarbageError
from producers.listener.diff import diff, state
from producers.listener.quarantine import Quarantine
from producers.nacos import payload
from producers.nacos.service_info import parse_service_info
from schemas.avro_codec import codecs
from schemas.events import ConfigKey, ConfigState, Namespace
from schemas.protobuf.nacos_grpc.payload_pb2 import Payload
from tests.property.hostile import SETTINGS, Way, json_values
from tests.unit.conversions import make, seen

if TYPE_CHECKING:
    from collections.abc import Callable

FIELDS = (
    "instanceId", "ip", "port", "weight", "healthy", "enabled", "ephemeral", "clusterName", "serviceName",
    "metadata", "instanceHeartBeatInterval", "x",
)  # fmt: skip
SERVICE_FIELDS = (
    "name", "groupName", "clusters", "cacheMillis", "hosts", "lastRefTime", "reachProtectionThreshold", "x",
)  # fmt: skip
METADATA_KEYS = ("service-port", "protocol", "region", "zone", "network", "version", "", "a b", "\x00")


class TakesAll:
    """A writer to Kafka that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def write(self, _: str, *, partition: int, key: bytes, value: bytes) -> bool:
        assert partition == -1
        assert len(key) + len(value) < 1024 * 1024
        self.records.append(value)
        return True


def rendered(value: dict[str, str]) -> str:
    """A JSON object whose values are JSON already."""
    return "{" + ", ".join(f"{json.dumps(key)}: {text}" for key, text in value.items()) + "}"


def host(ip: str = "10.0.0.1") -> dict[str, str]:
    """A good instance, as Nacos sends it."""
    return {
        "ip": f'"{ip}"', "port": "8080", "weight": "1.0", "healthy": "true", "enabled": "true",
        "ephemeral": "true", "clusterName": '"DEFAULT"', "serviceName": '"DEFAULT_GROUP@@svc"',
        "metadata": '{"version": "v1"}',
    }  # fmt: skip


@st.composite
def pushes(draw: Callable[..., Any]) -> str:
    """A service of three instances, one of which is odd in a field or two; sometimes the service is."""
    odd = host("10.0.0.9")
    for _ in range(draw(st.integers(1, 2))):
        odd[draw(st.sampled_from(FIELDS))] = draw(json_values)
    if draw(st.booleans()):
        value = draw(st.one_of(json_values, st.just('"00001' + "9" * 5000 + '"'), st.just('"0000655359"')))
        odd["metadata"] = rendered({draw(st.sampled_from(METADATA_KEYS)): value})
    hosts = [rendered(host()), rendered(odd), rendered(host("10.0.0.2"))]
    if draw(st.integers(0, 9)) == 0:
        hosts.append(draw(json_values))
    service = {"name": '"svc"', "groupName": '"DEFAULT_GROUP"', "hosts": f"[{', '.join(hosts)}]"}
    if draw(st.integers(0, 9)) == 0:
        service[draw(st.sampled_from(SERVICE_FIELDS))] = draw(json_values)
    return rendered({"requestId": '"1"', "serviceInfo": rendered(service)})


def envelope(text: str) -> bytes:
    """The bytes in which JSON travels; what is no Unicode as Java would write it."""
    found = Payload()
    found.metadata.type = "NotifySubscriberRequest"
    found.body.value = text.encode("utf-8", "surrogatepass")
    return found.SerializeToString()


@given(pushes())
@SETTINGS
def test_whatever_a_push_says_costs_the_instance_or_the_push(text) -> None:
    """Garbage is called so; of the rest each instance is listed, unlisted or set aside; a good service follows."""
    way = Way()
    way.open()
    found = None
    with suppress(NacosGarbageError):
        found = parse_service_info(payload.decode(envelope(text)).body.get("serviceInfo"))
    if found is not None:
        writer = TakesAll()
        quarantine = Quarantine(writer, codecs().quarantined, datacenter="dc1", process="p")  # type: ignore[arg-type]
        for bad in found.hosts.bad:
            assert bad.reason != "internal_fault", bad.detail
            quarantine.set_aside(
                Namespace("public"), found.key, reason=bad.reason, detail=bad.detail, value=bad.host
            )
        for written in writer.records:
            codecs().quarantined.decode(written)
        body, stated = state(found.key, seen(*found.hosts.instances))
        assert way.add(body) is Outcome.APPLIED
        way.publish()
        delta, _ = diff(found.key, stated, seen(*found.hosts.instances, make("10.0.0.77")))
        assert delta is not None
        assert way.add(delta) is Outcome.APPLIED
        way.publish()
        (record,) = way.published.values()
        good = [ip.encode() for ip in ("10.0.0.1", "10.0.0.2") if ip in text]
        assert all(address in record.body() for address in (*good, b"10.0.0.77")), record.name
    assert way.good_service_is_published()


@given(st.sampled_from(["content", "md5", "contentType", "x"]), json_values)
@SETTINGS
def test_whatever_an_answer_about_an_item_says_costs_the_item(field, value) -> None:
    """The text that is in it is converted or refused; a good service follows."""
    answer = {"content": '"a: b"', "md5": '"0"', "contentType": '"yaml"', "resultCode": "200", field: value}
    way = Way()
    way.open()
    body: dict[str, Any] = {}
    with suppress(NacosGarbageError):
        body = payload.decode(envelope(rendered(answer))).body
    content, md5 = body.get("content"), body.get("md5")
    if isinstance(content, str) and isinstance(md5, str):
        kind = str(body.get("contentType") or "")
        item = ConfigState(key=ConfigKey("ISTIO", "x"), content=content, content_type=kind, md5=md5)
        assert way.add(item) in {Outcome.BAD_ITEM, Outcome.APPLIED}
        way.publish()
    assert way.good_service_is_published()
