"""Nacos 3.x's fuzzy watch: the names of a namespace's services, pushed. Pure.

Theory of operation: WATCH is sent with the names that we have; the server answers with what we lack, ten
names a message, and says when that is finished; from then on each new or vanished name comes by itself. The
watch is sent again every three minutes, in case a message was lost. A server allows few patterns and few
matches of each (50310, 50311), and leaves out the excess in silence: so what was received is counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from producers.nacos.names import is_name
from schemas.events import ServiceKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from producers.nacos.payload import Envelope

REQUEST = "NamingFuzzyWatchRequest"
OVER_LIMIT = frozenset({50310, 50311})
"""Too many patterns, too many matches of ours: services must be listed instead."""
RESEND_S = 180.0
_FINISHED = "FINISH_FUZZY_WATCH_INIT_NOTIFY"


@dataclass(frozen=True, slots=True, kw_only=True)
class NameChanges:
    """Names that appeared and names that are said to have vanished."""

    added: frozenset[ServiceKey] = frozenset()
    deleted: frozenset[ServiceKey] = frozenset()


@dataclass(slots=True)
class FuzzyWatch:
    """The watch of one namespace over one connection; `finished` once the server told all that it has."""

    namespace: str
    names: set[ServiceKey] = field(default_factory=set)
    finished: bool = False

    def request(self) -> dict[str, Any]:
        """The body of the watch request, with what we have."""
        return {
            "groupKeyPattern": f"{self.namespace}>>*>>*",
            "receivedGroupKeys": [f"{self.namespace}@@{key.group}@@{key.service}" for key in sorted(self.names)],
            "watchType": "WATCH",
            "initializing": not self.finished,
            "namespace": self.namespace,
        }

    def receive(self, message: Envelope) -> NameChanges | None:
        """What a push says; None when it is not about names, or not of this namespace."""
        match message.type:
            case "NamingFuzzyWatchSyncRequest":
                if message.body.get("syncType") == _FINISHED:
                    self.finished = True
                contexts = message.body.get("contexts")
                entries = contexts if isinstance(contexts, list) else []
            case "NamingFuzzyWatchChangeNotifyRequest":
                entries = [message.body]
            case _:
                return None
        return self._apply(entry for entry in entries if isinstance(entry, dict))

    def _apply(self, entries: Iterable[dict[str, Any]]) -> NameChanges:
        added, deleted = set(), set()
        for entry in entries:
            namespace, _, rest = str(entry.get("serviceKey", "")).partition("@@")
            group, _, service = rest.partition("@@")
            if namespace != self.namespace or not is_name(group) or not is_name(service):
                continue
            key = ServiceKey(group, service)
            if entry.get("changedType") == "DELETE_SERVICE":
                self.names.discard(key)
                deleted.add(key)
            else:
                self.names.add(key)
                added.add(key)
        return NameChanges(added=frozenset(added - deleted), deleted=frozenset(deleted))
