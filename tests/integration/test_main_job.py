"""From a change in Nacos to an MCP client, at size, against what Nacos itself says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.load import GROUP, expected_endpoints
from tests.harness.pilot import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness.load import Load
    from tests.harness.pilot import Endpoint, Pilot
    from tests.harness.processes import Processes
    from tests.harness.servers import NacosServer

SERVICES = 2000
INSTANCES = 20
CHANGES = 500


def test_a_client_has_what_nacos_has_and_every_gateway_gives_the_same_bytes(
    processes: Processes,
    nacos: NacosServer,
    namespace: str,
    load: Load,
    pilots: Callable[..., Pilot],
) -> None:
    """2,000 services of 20 instances arrive exactly, and so do 500 random changes.

    Two gateways, over MCP and ADS, and one restarted from nothing, give equal bytes and versions.
    """
    load.register(SERVICES, INSTANCES)
    _, _, gateway = processes.start_all()
    other = processes.start("gateway")
    other.wait()
    pilot, second, over_ads = pilots(gateway.address), pilots(other.address), pilots(other.address, protocol="ads")
    services = [(GROUP, name) for name in load.services]

    def in_nacos() -> dict[str, set[Endpoint]]:
        return expected_endpoints(namespace, nacos.hosts(namespace, services))

    wait_for(
        lambda: pilot.last is not None and len(pilot.last.resources) == SERVICES, timeout_s=60, what="all there"
    )
    assert pilot.endpoints() == in_nacos()

    load.change(CHANGES, per_second=100)
    expected = in_nacos()
    wait_for(lambda: pilot.endpoints() == expected, timeout_s=60, what="the client has what Nacos has")
    assert min(pilot.sizes) == SERVICES, "a partial or empty snapshot was sent"

    wait_for(lambda: second.endpoints() == expected, timeout_s=30, what="the second gateway's client, too")
    wait_for(lambda: over_ads.endpoints() == expected, timeout_s=30, what="the client over ADS, too")
    assert pilot.last is not None
    assert second.last is not None
    assert over_ads.last is not None
    assert pilot.last.message == second.last.message
    assert {n: r.SerializeToString(deterministic=True) for n, r in over_ads.last.resources.items()} == {
        n: r.SerializeToString(deterministic=True) for n, r in pilot.last.resources.items()
    }

    gateway.child.kill()
    gateway.start()
    gateway.wait()
    again, moved = pilots(gateway.address), pilots(other.address)
    wait_for(lambda: again.last is not None and moved.last is not None, timeout_s=30, what="answers after restart")
    assert again.last is not None
    assert again.last.message == pilot.last.message
    assert moved.versions == [pilot.last.version]
