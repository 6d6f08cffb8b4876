"""A collection of a view: its resources by name, its version, what its last versions changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mcp_gateway.views.change_ring import ChangeRing
from mcp_gateway.views.runs import Runs
from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from mcp_gateway.resources import EncodedResource

EMPTY_VERSION = format_snapshot_digest(0)


class Origin(NamedTuple):
    """Where a resource comes from: the namespace of the snapshots, and its name there."""

    namespace: str
    name: str


@dataclass(slots=True)
class Collection:
    """The resources of a collection by name; `runs` has their names in order.

    Several namespaces may state resources of one name, or come to do so in a view that renames. Whose origin sorts
    first is shown, on every gateway and in whatever order they came; the others wait in `rivals`.
    """

    resources: dict[str, EncodedResource] = field(default_factory=dict)
    digest: int = 0
    observed_at: int = 0
    changes: ChangeRing = field(default_factory=ChangeRing)
    rivals: dict[str, dict[Origin, EncodedResource]] = field(default_factory=dict)
    runs: Runs = field(default_factory=Runs)
    _touched: set[str] = field(default_factory=set)
    _settled: str | None = None
    _origins: dict[str, Origin] = field(default_factory=dict)
    _version: str | None = None

    def put(self, origin: Origin, name: str, resource: EncodedResource | None, observed_at: int) -> None:
        """Takes a resource in under that name, or out."""
        self.observed_at = max(self.observed_at, observed_at)
        rivals = self.rivals.get(name)
        if rivals is None:
            owner = self._origins.get(name, origin)
            if owner == origin:
                self._show(name, origin, resource)
                return
            if resource is None:
                return
            rivals = self.rivals[name] = {owner: self.resources[name]}
        if resource is None:
            rivals.pop(origin, None)
        else:
            rivals[origin] = resource
        first = min(rivals)
        self._show(name, first, rivals[first])
        if len(rivals) == 1:
            del self.rivals[name]

    def settle(self) -> tuple[str | None, set[str]]:
        """The version when this was last called, None the first time, and the names of what was put since then."""
        former, self._settled = self._settled, self.version
        names, self._touched = self._touched, set()
        return former, names

    @property
    def version(self) -> str:
        """The content's version, as 32 hex digits."""
        if self._version is None:
            self._version = format_snapshot_digest(self.digest)
        return self._version

    def _show(self, name: str, origin: Origin, resource: EncodedResource | None) -> None:
        former = self.resources.get(name)
        self._version = None
        self._touched.add(name)
        self.digest += (0 if resource is None else resource.digest) - (0 if former is None else former.digest)
        if resource is not None:
            self.resources[name] = resource
            self._origins[name] = origin
            if former is None:
                self.runs.add(name)
            else:
                self.runs.changed(name)
        elif former is not None:
            del self.resources[name]
            del self._origins[name]
            self.runs.remove(name)
