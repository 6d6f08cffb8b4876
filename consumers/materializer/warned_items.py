"""Config items in which Istio warns of something: a metric, and a log line when one is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from consumers import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.status import NamespaceStatus
    from schemas.events import Namespace

_log = structlog.get_logger()

_MOST_LINES = 100


class WarnedItems:
    """What was told already. Called about once a second, on one thread."""

    def __init__(self) -> None:
        self._told: set[tuple[Namespace, str, tuple[str, ...]]] = set()

    def report(self, namespaces: Mapping[Namespace, NamespaceStatus]) -> None:
        """Sets the metric, and logs what is new."""
        present = {
            (namespace, item, warnings)
            for namespace, one in namespaces.items()
            for item, warnings in one.item_warnings.items()
        }
        for namespace, item, warnings in sorted(present - self._told)[:_MOST_LINES]:
            _log.warning("config_item_warnings", namespace=namespace, item=item, warnings=warnings)
        self._told = present
        metrics.WARNED_ITEMS.set(len(present))
