"""What a manifest says: counts and changes of an update, and the circumstances in which it was made. Pure.

Lists and texts are cut, so that a manifest always fits into a record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.digests import format_snapshot_digest, resource_digest
from schemas.records import Change, ChangeKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.materializer.fold_state import PartitionState
    from consumers.materializer.folded_item import ResourceId
    from schemas.events import Namespace
    from schemas.records import ResourceRecord

MAX_NAMED = 1000
"""Changes, holds and withheld resources that a manifest names; of changes the counts tell of all."""
_MAX_HOLD = 400
"""Characters that tell of a hold: services may have long names."""


class Tally(NamedTuple):
    """What records make of a snapshot; `digests` are the written ones' shares of its digest."""

    digests: dict[ResourceId, int]
    counts: dict[str, Any]
    """The fields of a manifest that tell of it."""


def tally(
    records: Mapping[ResourceId, ResourceRecord | None], standing: Mapping[ResourceId, int], total: int
) -> Tally:
    """The tally of an update over what stands published: the resources' shares of the digest, and their sum."""
    kinds: dict[ChangeKind, list[Change]] = {kind: [] for kind in ChangeKind}
    count = len(standing)
    digests: dict[ResourceId, int] = {}
    for (collection, name), record in sorted(records.items(), key=lambda item: item[0]):
        former = standing.get((collection, name))
        kind = ChangeKind.REMOVED if record is None else ChangeKind.ADDED if former is None else ChangeKind.CHANGED
        kinds[kind].append(Change(kind=kind, collection=collection, name=name))
        count += (record is not None) - (former is not None)
        total -= former or 0
        if record is not None:
            digest = digests[collection, name] = resource_digest(collection, name, record.version)
            total += digest
    counts = {
        "digest": format_snapshot_digest(total),
        "resources": count,
        "added": len(kinds[ChangeKind.ADDED]),
        "changed": len(kinds[ChangeKind.CHANGED]),
        "removed": len(kinds[ChangeKind.REMOVED]),
        "changes": tuple(change for kind in kinds.values() for change in kind)[:MAX_NAMED],
    }
    return Tally(digests, counts)


def circumstances(state: PartitionState, namespace: Namespace) -> dict[str, Any]:
    """The fields of a manifest that tell of links, holds and decisions."""
    here = state.of_namespace(namespace)
    holds = [
        _shown(text) for datacenter in here for text in state.describe_holds(datacenter, namespace)[:MAX_NAMED]
    ]
    return {
        "links": {datacenter: state.datacenters[datacenter].link for datacenter in here},
        "holds": tuple(holds[:MAX_NAMED]),
        "suspect": tuple(datacenter for datacenter, there in here.items() if there.suspect),
        "frozen": state.stands(namespace),
        "decisions": state.decisions_over(namespace),
    }


def named(resources: Iterable[ResourceId]) -> tuple[str, ...]:
    """Resources as a manifest names them: `collection name`."""
    return tuple(f"{collection} {name}" for collection, name in sorted(resources)[:MAX_NAMED])


def resource_id(named: str) -> ResourceId:
    """The resource that a manifest names."""
    collection, _, name = named.partition(" ")
    return collection, name


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_HOLD else f"{text[:_MAX_HOLD]}..."
