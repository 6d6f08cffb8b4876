"""A config item in one datacenter as the fold keeps it: the resources that it states, or stated last. Pure."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.config_item import BadItemError, read_item
from consumers.materializer.faults import Fault, Reason, foreseen, internal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from consumers.materializer.conversion.config_item import ConfigResource
    from consumers.settings import ConversionSettings
    from schemas.events import ConfigKey, ConfigState, Namespace

ResourceId = tuple[str, str]
"""Collection and name."""


class FoldedItem(NamedTuple):
    """The hash of its text, its resources, and what is wrong with it: then they are the last good ones.

    `warnings` is what Istio warns of in a good one.
    """

    digest: bytes
    resources: Mapping[ResourceId, ConfigResource]
    fault: Fault | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether it lives on what it stated before: a fold that begins now does not know that."""
        return self.fault is not None and bool(self.resources)

    @property
    def is_our_fault(self) -> bool:
        """Whether its text may be right: then it is converted again when it is stated again."""
        return self.fault is not None and self.fault.reason is Reason.INTERNAL_FAULT


def holds_resources(settings: ConversionSettings, key: ConfigKey) -> bool:
    """Whether the items of this group are converted."""
    return any(fnmatchcase(key.group, pattern) for pattern in settings.config_groups)


def fold_item(
    settings: ConversionSettings,
    namespace: Namespace,
    state: ConfigState,
    former: FoldedItem | None,
    revision: str,
) -> FoldedItem:
    """The item after this; the former one itself when its text, or what came of it, is the same."""
    digest = hashlib.blake2b(state.content.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if former is not None and former.digest == digest and not former.is_our_fault:
        return former
    place = f"{state.key.group}/{state.key.data_id}"
    try:
        item = read_item(settings, namespace, state.content, revision)
        resources = {(one.collection, one.name): one for one in item.resources}
        return FoldedItem(digest, resources, warnings=item.warnings)
    except BadItemError as error:
        fault = foreseen(Reason.BAD_ITEM, place, str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it costs this item
        fault = internal(place, error)
    if former is None:
        return FoldedItem(digest, {}, fault)
    if former.digest == digest and former.fault is not None and former.fault[:3] == fault[:3]:
        return former
    return FoldedItem(digest, former.resources, fault)


class Claimant(NamedTuple):
    """An item that states a resource; of several the least one has it: by datacenter, group and data id."""

    datacenter: str
    group: str
    data_id: str
    resource: ConfigResource

    def __str__(self) -> str:
        """As an operator reads it."""
        return f"{self.datacenter}:{self.group}/{self.data_id}"


def claimants(
    there: Iterable[tuple[str, dict[ResourceId, set[ConfigKey]], dict[ConfigKey, FoldedItem]]], wanted: ResourceId
) -> list[Claimant]:
    """Who states a resource, the one that has it first.

    `there` are, by datacenter, the items that claim each resource, and the items.
    """
    return sorted(
        Claimant(datacenter, key.group, key.data_id, items[key].resources[wanted])
        for datacenter, claims, items in there
        for key in claims.get(wanted, ())
    )
