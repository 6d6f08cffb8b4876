"""A collection of a view: its resources by name, its version, what its last versions changed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_gateway.views.change_ring import ChangeRing
from mcp_gateway.views.runs import Runs
from mcp_gateway.views.stated import Differing, Stated, size_of
from schemas.digests import format_snapshot_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_gateway.resources import EncodedResource

EMPTY_VERSION = format_snapshot_digest(0)

_FEW = 10
"""So many differences are sent as such, however small the collection."""
_MANY = 5000
"""More names are not kept of what a peer lacks: it is sent everything."""

Origin = tuple[str, str]
"""Where a resource comes from: the namespace of the snapshots, and its name there."""


@dataclass(slots=True)
class Collection:
    """The resources of a collection by name; `runs` has their names in order.

    `version` is that of the content when `settle` was last called, as 32 hex digits.

    Several namespaces may state resources of one name, or come to do so in a view that renames. Whose origin sorts
    first is shown, on every gateway and in whatever order they came; the others wait in `rivals`.
    """

    resources: dict[str, EncodedResource] = field(default_factory=dict)
    version: str = EMPTY_VERSION
    observed_at: int = 0
    changes: ChangeRing = field(default_factory=ChangeRing)
    rivals: dict[str, dict[Origin, EncodedResource]] = field(default_factory=dict)
    runs: Runs = field(default_factory=Runs)
    _digest: int = 0
    _touched: set[str] = field(default_factory=set)
    _origins: dict[str, Origin] = field(default_factory=dict)

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

    def settle(self) -> str | None:
        """Makes what was put since the last time a version; the former one, None if it is the same."""
        names, self._touched = self._touched, set()
        former, self.version = self.version, format_snapshot_digest(self._digest)
        if self.version == former:
            return None
        self.changes.note(former, names)
        return former

    def version_of(self, name: str) -> str:
        """The version of a resource; empty when there is none."""
        resource = self.resources.get(name)
        return "" if resource is None else resource.version

    def changed_since(self, version: str) -> frozenset[str] | None:
        """The names of all that may differ from a version; None when it is forgotten."""
        return frozenset() if version == self.version else self.changes.since(version)

    def worth_sending(self, version: str) -> frozenset[str] | None:
        """The names of what changed since a version, unless that is most of the collection."""
        names = self.changed_since(version)
        return names if names is not None and self._is_worth_it(names) else None

    def versions_behind(self, version: str | None) -> int | None:
        """How many versions came after that one; None when it is not known. From any thread."""
        if version is None:
            return None
        return 0 if version == self.version else self.changes.steps_since(version)

    def differing(self, has: Mapping[str, str]) -> frozenset[str]:
        """The names of all that differ from what a peer has, by name and version."""
        missing = {name for name, resource in self.resources.items() if has.get(name) != resource.version}
        return frozenset(missing | (has.keys() - self.resources.keys()))

    def compare(self, has: Stated) -> Differing:
        """What a peer stated, as its difference to the present version: there is no more to be kept of it."""
        names = self.differing(has.versions)
        is_whole = not self._is_worth_it(names) or len(names) > _MANY
        if is_whole:
            names -= self.resources.keys()
        return Differing(self.version, names, size_of(names), is_whole)

    def lacking(self, basis: str | Stated | Differing) -> frozenset[str] | None:
        """The names of all that may differ from what a peer has; None when that is forgotten."""
        match basis:
            case str():
                return self.changed_since(basis)
            case Stated(versions=versions):
                return self.differing(versions)
            case Differing(version=version, names=names, is_whole=is_whole):
                changed = self.changed_since(version)
                if changed is None:
                    return None
                return names | changed | (self.resources.keys() if is_whole else frozenset())

    def only_removes(self, basis: str | Stated | Differing) -> bool:
        """Whether the difference to what a peer has holds no resource, while there are some."""
        names = self.lacking(basis)
        return bool(self.resources) and names is not None and not (names & self.resources.keys())

    def exceeds(self, size: int, since: str | None) -> bool:
        """Whether a push of what changed since a version, of everything when None, has more bytes than that."""
        names = None if since is None else self.worth_sending(since)
        found = 0
        for name in self.resources if names is None else names:
            resource = self.resources.get(name)
            found += 0 if resource is None else resource.size
            if found > size:
                return True
        return False

    def _is_worth_it(self, names: frozenset[str]) -> bool:
        """Whether these are few enough to be sent as a difference."""
        return len(names) <= max(_FEW, len(self.resources) / 2)

    def _show(self, name: str, origin: Origin, resource: EncodedResource | None) -> None:
        former = self.resources.get(name)
        self._touched.add(name)
        self._digest += (0 if resource is None else resource.digest) - (0 if former is None else former.digest)
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
