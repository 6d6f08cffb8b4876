"""Matches of texts: exact, by prefix, or by a pattern. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource


def check_match(match: Any, resource: Resource, path: Path, *, may_be_empty: bool = False) -> Findings:
    """`networking.StringMatch`; a prefix of nothing matches everything where it `may_be_empty`."""
    kind = match.WhichOneof("match_type")
    if kind == "regex":
        yield from resource.patterns.check(match.regex, (*path, "regex"))
    elif kind == "prefix" and not match.prefix and not may_be_empty:
        yield Finding((*path, "prefix"), "must not be empty")
