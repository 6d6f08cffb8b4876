"""What a validation knows of a resource besides its body. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from consumers.materializer.conversion.validation.patterns import Patterns


class Resource(NamedTuple):
    """Its Istio namespace, name, labels and annotations; `root` is the namespace whose policies hold for all."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    patterns: Patterns
    root: str = "istio-system"
