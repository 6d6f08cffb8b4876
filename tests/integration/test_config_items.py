"""Config items of a real Nacos, as resources that Pilots get."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.avro_codec import codecs
from schemas.protobuf.istio_networking.virtual_service_pb2 import VirtualService
from schemas.topics import QUARANTINE
from tests.harness.load import make_instance
from tests.harness.logs import read_all
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import KafkaServer, NacosServer

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, labels: {team: shop}}
spec:
  hosts: [HOST]
  http: [{timeout: 500ms, route: [{destination: {host: HOST}}]}]
"""


def test_an_item_reaches_pilots_and_the_last_good_one_stands(
    processes: Processes,
    kafka: KafkaServer,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Written, changed, spoilt, mended, deleted; over MCP and ADS; what is wrong stands in the quarantine."""
    load.register(2, 1)
    nacos.write_item(namespace, "orders.yaml", SERVICE.replace("HOST", "one.example"))
    _, materializer, gateway = processes.start_all()
    over_mcp = pilots(gateway.address, collection="istio/networking/v1alpha3/virtualservices")
    over_ads = pilots(gateway.address, protocol="ads", collection="networking.istio.io/v1/VirtualService")

    def hosts(pilot: Pilot) -> list[str]:
        """The hosts of the one virtual service."""
        if pilot.last is None or not pilot.last.resources:
            return []
        (resource,) = pilot.last.resources.values()
        assert (resource.metadata.name, dict(resource.metadata.labels)) == (
            f"{namespace}/orders",
            {"team": "shop"},
        )
        service = VirtualService.FromString(resource.body.value)
        assert service.http[0].timeout.nanos == 500_000_000
        return list(service.hosts)

    def wait_for_hosts(*wanted: str) -> None:
        wait_for(
            lambda: hosts(over_mcp) == hosts(over_ads) == list(wanted), timeout_s=20, what=f"the hosts {wanted}"
        )

    wait_for_hosts("one.example")
    nacos.write_item(namespace, "orders.yaml", SERVICE.replace("HOST", "two.example"))
    wait_for_hosts("two.example")

    nacos.write_item(namespace, "orders.yaml", SERVICE.replace("timeout: 500ms", "timeout: soon"))
    wait_for(
        lambda: materializer.metric("shiplog_materializer_quarantined_total", reason="bad_item") == 1,
        timeout_s=20,
        what="in the quarantine",
    )
    (record,) = [codecs().quarantined.decode(message.value()) for message in read_all(kafka, QUARANTINE)]
    assert record.reason == "bad_item"
    assert record.detail.startswith("ISTIO/orders.yaml, line 6, spec.http[0].timeout: soon is no duration")
    materializer.child.kill()
    materializer.start()
    materializer.wait()
    assert hosts(over_mcp) == hosts(over_ads) == ["two.example"]
    assert len(read_all(kafka, QUARANTINE)) == 1, "told of once"

    nacos.write_item(namespace, "orders.yaml", SERVICE.replace("HOST", "three.example"))
    wait_for_hosts("three.example")
    nacos.write_item(namespace, "orders.yaml", None)
    wait_for_hosts()


HOSTILE = {
    "endless.yaml": SERVICE.replace("HOST", "x.example").replace("500ms", "99999999999999999999s"),
    "hours.yaml": SERVICE.replace("HOST", "x.example").replace("500ms", "9999999999999999h"),
    "double.yaml": SERVICE.replace("HOST", "x.example").replace(
        "timeout: 500ms", f"mirrorPercentage: {{value: {'9' * 310}}}"
    ),
    "digits.yaml": SERVICE.replace("labels:", f"generation: {'9' * 5000}, labels:"),
}
"""Each was seen to end the materializer for good; the log keeps them after they are deleted."""


def test_what_nacos_says_never_ends_the_pipeline(
    processes: Processes,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """Items and instances that were seen to end it: good services are published before and after a restart.

    Also by a log that holds them after they were deleted. The items are refused with line and field.
    """
    for data_id, text in HOSTILE.items():
        nacos.write_item(namespace, data_id, text)
    odd = make_instance(9, 0)._replace(weight=1.7976931348623157e308)
    port = make_instance(9, 1)._replace(metadata={"service-port": "00001" + "9" * 900})
    load.state("odd", [odd, port, make_instance(9, 2)])
    _, materializer, gateway = processes.start_all()
    pilot = pilots(gateway.address)

    def wait_for_endpoint(service: str, address: str) -> None:
        name = f"{namespace}/{service}.default-group.{namespace}"
        wait_for(
            lambda: pilot.last is not None and address in str(pilot.endpoints().get(name)),
            timeout_s=30,
            what=f"{address} of {service}",
        )

    def restart() -> None:
        materializer.child.kill()
        materializer.start()
        materializer.wait()

    wait_for_endpoint("odd", "10.0.9.1")
    assert all(f"10.0.9.{number}" in str(pilot.endpoints()) for number in (1, 2, 3))
    wait_for(
        lambda: materializer.metric("shiplog_materializer_quarantined_total", reason="bad_item") == len(HOSTILE),
        timeout_s=20,
        what="all of them in the quarantine",
    )
    load.state("good", [make_instance(1, 1)])
    wait_for_endpoint("good", "10.0.1.2")
    restart()
    load.state("good", [make_instance(1, 2)])
    wait_for_endpoint("good", "10.0.1.3")
    for data_id in HOSTILE:
        nacos.write_item(namespace, data_id, None)
    load.state("good", [make_instance(1, 3)])
    wait_for_endpoint("good", "10.0.1.4")
    restart()
    load.state("good", [make_instance(1, 4)])
    wait_for_endpoint("good", "10.0.1.5")
    assert materializer.metric("shiplog_materializer_quarantined_total", reason="internal_fault") == 0
    assert materializer.metric("shiplog_materializer_suspect_namespaces") == 0
    verified = processes.run("audit", "verify", "-n", namespace)
    assert verified.returncode == 0, verified.stdout + verified.stderr
