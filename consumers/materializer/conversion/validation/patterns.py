"""Regular expressions as Envoy compiles them: RE2's, which knows no looking ahead and no going back. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import re2

from consumers.materializer.conversion.validation.findings import Finding, quoted

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path

_LONGEST = 1024
"""Bytes of a pattern: istiod refuses a longer one."""
_LARGEST_PROGRAM = 32768
"""Instructions of a compiled pattern: istiod tells Envoy to take no larger one."""
_MOST_INSTRUCTIONS = 500_000
"""Of all patterns of an item: half a second of compiling."""
_BYTES_AN_INSTRUCTION = 96
_ANY_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\C")
"""Taken by RE2 and refused by Go's reading of it, which validates in istiod."""
_COST_OF_FAILURE = 8192
"""Instructions that a pattern counts as that can't be compiled: it may have been too large."""
_COST_OF_CLASS = 400
"""Instructions that a class of Unicode counts as (`\\p`, `\\P`): each takes so long to read."""
_COST_OF_CASELESS_BYTE = 5
"""The same, of a byte of a pattern that ignores case: each range is folded."""
_CLASS = re.compile(r"\\[pP]")
_CASELESS = re.compile(r"\(\?[A-Za-z]*i")
_KEPT_PROGRAM = 1000
"""The library keeps the last compiled patterns; after a larger one they are let go of."""


class Patterns:
    """Compiles the patterns of one item, within a bound."""

    def __init__(self) -> None:
        self._left = _MOST_INSTRUCTIONS
        self._known: dict[str, str | None] = {}
        self._options = re2.Options()
        self._options.log_errors = False
        self._options.max_mem = _LARGEST_PROGRAM * _BYTES_AN_INSTRUCTION

    def check(self, pattern: str, path: Path) -> Findings:
        """Whether a pattern is one of RE2's that Envoy takes."""
        if pattern not in self._known:
            self._known[pattern] = self._fault(pattern)
        fault = self._known[pattern]
        if fault is not None:
            yield Finding(path, fault)

    def _fault(self, pattern: str) -> str | None:
        if not pattern:
            return "must not be empty"
        if len(pattern.encode("utf-8", "replace")) > _LONGEST:
            return f"is longer than {_LONGEST} bytes"
        if self._left <= 0:
            return "the patterns of this item are too large"
        if _ANY_BYTE.search(pattern):
            return f"{quoted(pattern)} is no pattern of RE2: \\C is not taken"
        cost = len(_CLASS.findall(pattern)) * _COST_OF_CLASS
        if _CASELESS.search(pattern):
            cost += len(pattern) * _COST_OF_CASELESS_BYTE
        self._left -= cost
        if cost > _LARGEST_PROGRAM:
            return f"{quoted(pattern)} has too many classes of Unicode"
        try:
            size = re2.compile(pattern, self._options).programsize
        except re2.error as error:
            self._left -= _COST_OF_FAILURE
            return f"{quoted(pattern)} is no pattern of RE2: {_reason(error)}"
        except UnicodeEncodeError:
            return f"{quoted(pattern)} is no Unicode"
        if size > _KEPT_PROGRAM:
            re2.purge()
        self._left -= size
        return None if size <= _LARGEST_PROGRAM else f"{quoted(pattern)} amounts to {size} instructions"


def _reason(error: re2.error) -> str:
    """The library's own words, as text."""
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
