"""All views of a gateway: they share resources and messages, and take in each manifest together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_gateway.errors import NotKnownYetError
from mcp_gateway.views.messages import MAX_BYTES, Messages
from mcp_gateway.views.publisher import Publisher
from mcp_gateway.views.rules import Rules
from mcp_gateway.views.view import Selection, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_gateway.store import AppliedChanges

EVERYTHING = {"default": Selection()}


class Views:
    """The views by name, and the rules that choose among them. Belongs to the event loop.

    `shapes` are those that resources are stored in, in the order in which views refer to them. `unknown` are the
    namespaces that exist and of which no good snapshot is known: no stream of a view that has one is begun.
    """

    def __init__(
        self,
        selections: Mapping[str, Selection] = EVERYTHING,
        rules: Rules | None = None,
        *,
        max_message_bytes: int = MAX_BYTES,
    ) -> None:
        self.messages = Messages(max_bytes=max_message_bytes)
        self.shapes = tuple(dict.fromkeys(selection.shape for selection in selections.values()))
        self.publishers = {
            name: Publisher(View(name, selection, self.shapes.index(selection.shape), self.messages))
            for name, selection in selections.items()
        }
        self._rules = rules or Rules()
        self._changed: dict[str, set[str]] = {}
        self.unknown: frozenset[str] = frozenset()

    def choose(self, identities: Sequence[str], facts: Mapping[str, str]) -> Publisher | None:
        """The view of a peer with these identities and these facts of its node; None: it has none.

        Raises:
            NotKnownYetError: an answer would lack a namespace.
        """
        publisher = self.publishers.get(self._rules.view_of(identities, facts))
        if publisher is not None and (lacking := self.lacking(publisher.view)):
            raise NotKnownYetError(f"no good snapshot of namespace {', '.join(lacking[:5])} is known yet")
        return publisher

    def lacking(self, view: View) -> list[str]:
        """The namespaces that the view shows and of which no good snapshot is known."""
        return sorted(filter(view.selection.has_namespace, self.unknown))

    def apply(self, changes: AppliedChanges) -> None:
        """Takes in what a manifest changed. A view that fails keeps no other from it; its exception comes last."""
        fault: Exception | None = None
        for name, publisher in self.publishers.items():
            try:
                changed = publisher.view.apply(changes)
            except Exception as error:  # noqa: BLE001 - raised below
                fault = fault or error
                continue
            if changed:
                self._changed.setdefault(name, set()).update(changed)
        if fault is not None:
            raise fault

    def announce(self) -> None:
        """Tells the streams what was taken in since the last time."""
        changed, self._changed = self._changed, {}
        for name, collections in changed.items():
            self.publishers[name].changed(collections)

    def note_log(self, namespace: str, folded_to: Mapping[str, int]) -> None:
        """So far is the log in that namespace, by `topic-partition`."""
        for publisher in self.publishers.values():
            view = publisher.view
            if view.selection.has_namespace(namespace) and folded_to.items() - view.folded_to.items():
                view.folded_to = {**view.folded_to, **folded_to}
