"""A config item in one datacenter as the fold keeps it: the resources that it states, or stated last. Pure."""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from consumers.materializer.conversion.config_item import BadItemError, convert_item

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.config_item import ConfigResource
    from consumers.settings import ConversionSettings
    from schemas.events import ConfigKey, ConfigState, Namespace

ResourceId = tuple[str, str]
"""Collection and name."""


class FoldedItem(NamedTuple):
    """The hash of its text, its resources, and what is wrong with it: then they are the last good ones."""

    digest: bytes
    resources: tuple[ConfigResource, ...]
    fault: BadItemError | None = None

    @property
    def ids(self) -> set[ResourceId]:
        """What its resources are called."""
        return {(one.collection, one.name) for one in self.resources}

    @property
    def is_stale(self) -> bool:
        """Whether it lives on what it stated before: a fold that begins now does not know that."""
        return self.fault is not None and bool(self.resources)


def holds_resources(settings: ConversionSettings, key: ConfigKey) -> bool:
    """Whether the items of this group are converted."""
    return any(fnmatchcase(key.group, pattern) for pattern in settings.config_groups)


def fold_item(
    settings: ConversionSettings, namespace: Namespace, state: ConfigState, former: FoldedItem | None
) -> FoldedItem:
    """The item after this; the former one itself when its text is the same."""
    digest = hashlib.blake2b(state.content.encode(), digest_size=16).digest()
    if former is not None and former.digest == digest:
        return former
    try:
        return FoldedItem(digest, convert_item(settings, namespace, state.content))
    except BadItemError as fault:
        return FoldedItem(digest, () if former is None else former.resources, fault)


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
        Claimant(datacenter, key.group, key.data_id, resource)
        for datacenter, claims, items in there
        for key in claims.get(wanted, ())
        for resource in items[key].resources
        if (resource.collection, resource.name) == wanted
    )
