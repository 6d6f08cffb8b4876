"""Datacenters and namespaces of a partition as operators see them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.fold_state import PartitionState
    from consumers.materializer.folded_item import ResourceId
    from consumers.materializer.view import NamespaceView
    from schemas.events import Datacenter
    from schemas.records import Manifest


class NamespaceStatus(NamedTuple):
    """A namespace as an operator sees it; `datacenters` as the debug page shows them."""

    manifest: Manifest | None
    stands: bool
    missing: tuple[Datacenter, ...]
    awaited: tuple[Datacenter, ...]
    holds: tuple[str, ...]
    conflicts: dict[ResourceId, tuple[str, ...]]
    rivals: dict[str, tuple[str, ...]]
    without_address: list[str]
    faulted: dict[ResourceId, str]
    set_aside: dict[str, list[str]]
    bad_items: dict[str, str]
    """What is wrong with config items, by `datacenter:group/data id`."""
    item_warnings: dict[str, tuple[str, ...]]
    """What Istio warns of in good ones."""
    datacenters: dict[Datacenter, dict[str, object]]


def datacenter_statuses(state: PartitionState) -> dict[Datacenter, dict[str, object]]:
    """Each datacenter as the debug page shows it."""
    return {
        name: {
            "link": datacenter.link,
            "session": datacenter.session,
            "epoch": datacenter.epoch,
            "topic": datacenter.topic,
            "strange": datacenter.strange,
            "suspect": [namespace for namespace, here in datacenter.namespaces.items() if here.suspect],
        }
        for name, datacenter in state.datacenters.items()
    }


def namespace_status(
    state: PartitionState, view: NamespaceView, expected: Iterable[str], *, awaited: Iterable[Datacenter]
) -> NamespaceStatus:
    """A namespace in all datacenters.

    Those that are `expected` and have not stated it are missing; of those that are `awaited` what was published
    before a hole in the log stands.
    """
    name = view.namespace
    items = {
        f"{datacenter}:{key.group}/{key.data_id}": item
        for datacenter, here in state.of_namespace(name).items()
        for key, item in here.items.items()
        if item.fault is not None or item.warnings
    }
    return NamespaceStatus(
        manifest=view.manifest,
        stands=state.stands(name),
        missing=state.missing(name, expected),
        awaited=tuple(sorted(awaited)),
        holds=tuple(text for datacenter in state.datacenters for text in state.describe_holds(datacenter, name)),
        conflicts=dict(view.conflicts),
        rivals=view.rivals,
        without_address=view.without_address,
        faulted=dict(view.faulted),
        set_aside=view.set_aside.describe(),
        bad_items={name: item.fault.detail for name, item in items.items() if item.fault is not None},
        item_warnings={name: item.warnings for name, item in items.items() if item.warnings},
        datacenters={
            datacenter: {
                "link": state.datacenters[datacenter].link,
                "complete": here.complete,
                "suspect": here.suspect,
                "services": len(here.services),
                "config_items": len(here.items),
                "config_items_in_fault": sum(item.fault is not None for item in here.items.values()),
            }
            for datacenter, here in state.of_namespace(name).items()
        },
    )
