"""An independent client, made of Istio's and Envoy's own Go types, reads what the gateway sends."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from tests.harness.load import make_instance
from tests.harness.pilot import wait_for
from tests.harness.pilot_server import ServedViews
from tests.harness.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness.load import Load
    from tests.harness.pilot import Pilot
    from tests.harness.processes import Processes

SERVICE_ENTRY = "networking.istio.io/v1/ServiceEntry"


def read(output: str) -> dict[str, dict[str, Any]]:
    """The last push of each type."""
    return {push["type_url"]: push for push in map(json.loads, output.splitlines())}


def test_a_peer_of_istios_own_types_decodes_and_drives_ads(
    peer: Path, processes: Processes, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """istiod's way: every type at once with made-up nonces, MeshConfig unanswered, each push acknowledged.

    The bodies decode without unknown fields and come out again to the byte; versions are those of MCP.
    """
    odd = {"version": "v1", "region": "eu", "zone": "a", "network": "n1", "bad label": "x", "protocol": "grpc"}
    load.register(20, 3)
    load.state("svc-0", [make_instance(0, 0), make_instance(0, 1)])
    first = make_instance(1, 0)
    load.state("svc-1", [first._replace(metadata=odd)])
    _, _, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None and len(pilot.last.resources) == 20, timeout_s=30, what="all services")

    command = [str(peer), "-address", gateway.address, "-pushes", "2"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(gateway.debug("pilots")["pilots"]) == 2, timeout_s=10, what="the peer's stream")
    wait_for(
        lambda: all(
            any(state["acknowledged"] for state in each["collections"].values())
            for each in gateway.debug("pilots")["pilots"]
        ),
        timeout_s=10,
        what="its first acknowledgement",
    )
    load.state("svc-2", [make_instance(2, 9)])
    output, errors = client.communicate(timeout=60)
    assert client.returncode == 0, errors

    pushes = read(output)
    assert len(pushes) == 15
    assert all(not push["resources"] for name, push in pushes.items() if name != SERVICE_ENTRY)
    entries = {resource["name"]: resource for resource in pushes[SERVICE_ENTRY]["resources"]}
    assert len(entries) == 20
    assert all(entry["round_trips"] and entry["create_time"] == 1 for entry in entries.values())
    wait_for(
        lambda: pilot.last is not None and pilot.last.version == pushes[SERVICE_ENTRY]["version"],
        timeout_s=10,
        what="the same version over MCP",
    )
    assert pilot.last is not None
    assert {n: r.metadata.version for n, r in pilot.last.resources.items()} == {
        name: entry["version"] for name, entry in entries.items()
    }
    changed = entries[f"{namespace}/svc-2.default-group.{namespace}"]["body"]
    assert changed["hosts"] == [f"svc-2.default-group.{namespace}.nacos"]
    assert changed["endpoints"] == [
        {
            "address": "10.0.2.10",
            "ports": {"http": 8080},
            "labels": {"cluster": "DEFAULT", "rev": "0", "version": "v1"},
            "weight": 100,
        }
    ]
    (rich,) = entries[f"{namespace}/svc-1.default-group.{namespace}"]["body"]["endpoints"]
    assert rich["locality"] == "eu/a"
    assert rich["network"] == "n1"
    assert rich["ports"] == {"grpc": 8080}
    assert "bad label" not in rich["labels"]


def test_a_peer_of_envoys_own_types_drives_delta_ads(
    peer: Path, processes: Processes, namespace: str, load: Load, pilots: Callable[..., Pilot]
) -> None:
    """As a whole, by name, with what it has from before: each time exactly what it lacks, and must let go of."""
    load.register(20, 2)
    _, _, gateway = processes.start_all()
    pilot = pilots(gateway.address)
    wait_for(lambda: pilot.last is not None and len(pilot.last.resources) == 20, timeout_s=30, what="all services")
    name = {number: f"{namespace}/svc-{number}.default-group.{namespace}" for number in range(20)}

    def start(*options: str, pushes: int) -> subprocess.Popen[str]:
        command = [str(peer), "-address", gateway.address, "-delta", "-pushes", str(pushes), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pushes_of(client: subprocess.Popen[str]) -> list[dict[str, Any]]:
        output, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
        return [json.loads(line) for line in output.splitlines()]

    def streams() -> int:
        each = gateway.debug("pilots")["pilots"]
        return sum(any(s["acknowledged"] for s in one["collections"].values()) for one in each)

    all_of_them, by_name = start(pushes=2), start("-names", f"{name[3]},no/such", pushes=2)
    wait_for(
        lambda: len(gateway.debug("pilots")["pilots"]) == 3 and streams() >= 2, timeout_s=10, what="both peers"
    )
    load.state("svc-3", [make_instance(3, 9)])
    first, second = pushes_of(all_of_them)
    assert len(first["resources"]) == 20
    assert [one["name"] for one in second["resources"]] == [name[3]]
    first, second = pushes_of(by_name)
    assert [one["name"] for one in first["resources"]] == [name[3]]
    assert first["removed"] == ["no/such"], "it was asked for, and is not there"
    assert [one["body"]["endpoints"][0]["address"] for one in second["resources"]] == ["10.0.3.10"]

    assert pilot.last is not None
    wait_for(lambda: pilot.last.resources[name[3]].metadata.version == second["resources"][0]["version"],
             timeout_s=10, what="the same version over MCP")  # fmt: skip
    versions = {one: resource.metadata.version for one, resource in pilot.last.resources.items()}
    had = {**versions, name[5]: "old", "gone/service": "v1"}
    del had[name[6]]
    (push,) = pushes_of(start("-has", ",".join(f"{n}={v}" for n, v in had.items()), pushes=1))
    assert [one["name"] for one in push["resources"]] == sorted([name[5], name[6]])
    assert push["removed"] == ["gone/service"]


def test_a_peer_drives_mcp_as_a_sink_that_dials_and_as_one_that_is_dialled(peer: Path) -> None:
    """Differences after an acknowledgement, and against what it has; the trigger is refused and answered."""
    port = free_port()

    def run(*options: str, pushes: int) -> subprocess.Popen[str]:
        command = [str(peer), "-pushes", str(pushes), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def pushed(client: subprocess.Popen[str]) -> list[tuple[bool, list[str], list[str] | None]]:
        output, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
        found = [json.loads(line) for line in output.splitlines()]
        assert all(one["nonce"] == one["version"] for one in found)
        return [(one["incremental"], [r["name"] for r in one["resources"] or ()], one["removed"]) for one in found]

    dialled = run("-address", f"127.0.0.1:{port}", "-sink", pushes=2)
    with ServedViews({"sinks": [{"address": f"127.0.0.1:{port}"}]}) as served:
        served.change({"n/a": "1", "n/b": "1", "n/c": "1"})
        dialling = run("-address", served.address, "-mcp", pushes=2)
        wait_for(
            lambda: sum(bool(stream.books.acknowledged_at) for stream in list(served.server.streams)) == 2,
            timeout_s=20,
            what="both have everything",
        )
        served.change({"n/b": "2", "n/c": None})
        expected = [(False, ["n/a", "n/b", "n/c"], None), (True, ["n/b"], ["n/c"])]
        assert pushed(dialling) == expected
        assert pushed(dialled) == expected
        again = run("-address", served.address, "-mcp", "-has", "n/a=1,n/gone=7", pushes=1)
        assert pushed(again) == [(True, ["n/b"], ["n/gone"])]
