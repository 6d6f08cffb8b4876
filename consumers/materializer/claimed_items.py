"""The config items of a namespace in one datacenter, and which resources they state. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.materializer.folded_item import fold_item

if TYPE_CHECKING:
    from consumers.materializer.faults import Fault
    from consumers.materializer.fold_state import NamespaceState
    from consumers.materializer.folded_item import ResourceId
    from consumers.settings import ConversionSettings
    from schemas.events import ConfigKey, ConfigState, Namespace


def apply_item(
    settings: ConversionSettings,
    revision: str,
    name: Namespace,
    namespace: NamespaceState,
    body: ConfigState,
    touched: set[ResourceId],
) -> Fault | None:
    """Takes in what an item says now, and notes the resources that it touches; what is wrong with it and new."""
    former = namespace.items.get(body.key)
    item = fold_item(settings, name, body, former, revision)
    if item.is_our_fault:
        namespace.note_fault()
    if item is former:
        return None
    if former is None or former.resources != item.resources:
        remove_item(namespace, body.key, touched)
        touched.update(item.resources)
        for claimed in item.resources:
            namespace.claims.setdefault(claimed, set()).add(body.key)
    namespace.items[body.key] = item
    return item.fault


def remove_item(namespace: NamespaceState, key: ConfigKey, touched: set[ResourceId]) -> None:
    """An item states nothing any more."""
    item = namespace.items.pop(key, None)
    for claimed in () if item is None else item.resources:
        touched.add(claimed)
        namespace.claims[claimed].discard(key)
        if not namespace.claims[claimed]:
            del namespace.claims[claimed]


def mend_claims(namespace: NamespaceState, touched: set[ResourceId]) -> None:
    """Works out anew who states what, after a change of an item that raised: all of it may differ."""
    touched.update(namespace.claims)
    namespace.claims = {}
    for key, item in namespace.items.items():
        for claimed in item.resources:
            namespace.claims.setdefault(claimed, set()).add(key)
    touched.update(namespace.claims)
