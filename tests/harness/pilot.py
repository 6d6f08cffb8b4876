"""A client that follows a gateway like a Pilot does, and remembers what it was sent."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from shiplog.watch.client import entry_of, pushes_over_ads, pushes_over_mcp

if TYPE_CHECKING:
    from collections.abc import Callable

    from shiplog.watch.client import Pushed

SERVICE_ENTRIES = "istio/networking/v1alpha3/serviceentries"
SERVICE_ENTRY_TYPE = "networking.istio.io/v1/ServiceEntry"

Endpoint = tuple[str, int, int, frozenset[tuple[str, str]]]
"""Address, port, weight, labels."""


@dataclass
class Pilot:
    """Follows one collection over any of its gateways; begins again when a stream ends."""

    addresses: list[str]
    protocol: str = "mcp"
    collection: str = ""
    node: str = "pilot"
    last: Pushed | None = None
    versions: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    contents: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        turn = 0
        while not self._stop.is_set():
            address = self.addresses[turn % len(self.addresses)]
            turn += 1
            pushes = (
                pushes_over_mcp(address, self.collection or SERVICE_ENTRIES, client_id=self.node)
                if self.protocol == "mcp"
                else pushes_over_ads(address, self.collection or SERVICE_ENTRY_TYPE, client_id=self.node)
            )
            try:
                for push in pushes:
                    self.last = push
                    self.contents.append({name: one.metadata.version for name, one in push.resources.items()})
                    self.arrivals.append(time.time())
                    self.sizes.append(len(push.resources))
                    if not self.versions or self.versions[-1] != push.version:
                        self.versions.append(push.version)
                    if self._stop.is_set():
                        return
            except grpc.RpcError:
                self._stop.wait(0.2)

    def stop(self) -> None:
        self._stop.set()

    def endpoints(self) -> dict[str, set[Endpoint]]:
        """What it holds, by resource name."""
        if self.last is None:
            return {}
        found = {}
        for name, resource in self.last.resources.items():
            entry = entry_of(resource)
            assert entry is not None
            found[name] = {
                (e.address, e.ports[entry.ports[0].name], e.weight, frozenset(e.labels.items()))
                for e in entry.endpoints
            }
        return found

    def wait_for(self, condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        wait_for(condition, timeout_s=timeout_s, what=what)


def wait_for(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Waits until the condition holds; fails with `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"after {timeout_s} s still not: {what}"
        time.sleep(0.1)
