"""Which view a peer belongs to. Pure.

What a certificate proves goes first, then what a peer says of itself, then the default:

    rules that name identities      in their order; one that names node facts as well needs both
    rules that name node facts only in their order
    the default                     unless it is switched off: then the peer is refused
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_gateway.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Patterns of identities, one of which must match, and of node facts, all of which must."""

    view: str
    identities: tuple[str, ...] = ()
    node: Mapping[str, str] = field(default_factory=dict)

    def matches(self, identities: Sequence[str], facts: Mapping[str, str]) -> bool:
        """Whether the peer is one of those that the rule means."""
        if self.identities and not any(matches(identity, self.identities) for identity in identities):
            return False
        return all(name in facts and matches(facts[name], (pattern,)) for name, pattern in self.node.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of a gateway; an empty default refuses whoever matches none."""

    rules: tuple[Rule, ...] = ()
    default: str = "default"

    def view_of(self, identities: Sequence[str], facts: Mapping[str, str]) -> str:
        """The name of the peer's view; empty when it has none."""
        by_identity = [rule for rule in self.rules if rule.identities]
        by_node = [rule for rule in self.rules if not rule.identities]
        found = (rule.view for rule in (*by_identity, *by_node) if rule.matches(identities, facts))
        return next(found, self.default)
