"""What the protocols' sessions have in common: requests become answers and pushes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mcp_gateway.errors import ProtocolError
from mcp_gateway.sessions.watch import Answer, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from google.rpc.status_pb2 import Status

    from mcp_gateway.views.view import View

MAX_WATCHES = 200
"""Collections on one stream: a Pilot asks for about twenty."""


MAX_NODE_ID = 1024
"""Characters; Istio's are `sidecar~IP~POD.NAMESPACE~NAMESPACE.svc.DOMAIN`."""
MAX_FACT = 1024
"""Characters of the name and value of what a node says of itself."""
MAX_NAMES = 10_000
"""Resources named on one watch; a peer that wants more wants all."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a peer says of itself in its first request; it proves nothing."""

    id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, str]:
        """All of it, by name."""
        return {**self.metadata, "id": self.id}


NOBODY = Node()


def said_of_node(node_id: str, metadata: Mapping[str, str]) -> Node:
    """A node; metadata longer than any rule would look for is left out.

    Raises:
        ProtocolError: its id is too long: the audit trail would hold it in each record.
    """
    if len(node_id) > MAX_NODE_ID:
        raise ProtocolError(f"a node id of {len(node_id)} characters: at most {MAX_NODE_ID} are taken")
    short = {name: value for name, value in metadata.items() if len(name) + len(value) <= MAX_FACT}
    return Node(node_id, short)


class Received(NamedTuple):
    """A request, understood: which watch it is about, what it means, and the peer's complaint if any."""

    watch: Watch
    answer: Answer
    version: str | None = None
    code: int = 0
    message: str = ""


def answered(watch: Watch, answer: Answer, nonce: str, error: Status | None) -> Received:
    """What a request said of the push with that nonce, with the peer's complaint if it has one."""
    version = nonce if answer is Answer.ACK or answer is Answer.NACK else None
    if error is None:
        return Received(watch, answer, version)
    return Received(watch, answer, version, error.code, error.message)


@dataclass(slots=True)
class Watches:
    """A stream's watches by the peer's own name of the collection, in the order in which it asked.

    `waited` counts how often something was due while a push was on its way.
    """

    kind: type[Watch] = Watch
    waited: int = 0
    _watches: dict[str, Watch] = field(default_factory=dict)
    _of: dict[str, list[Watch]] = field(default_factory=dict)

    def receive(
        self,
        collection: str,
        asked_as: str,
        nonce: str,
        error: Status | None,
        *,
        incremental: bool = False,
    ) -> Received:
        """Takes a request; `incremental` when it asks for differences.

        The first one for a collection is initial whatever its nonce, and so is a later one without a nonce.

        Raises:
            ProtocolError: too many collections on one stream.
        """
        watch, is_new = self.of(collection, asked_as)
        answer = watch.request(nonce, initial=is_new or not nonce, error=error is not None)
        if answer is not Answer.STALE:
            watch.incremental = incremental
        if answer is Answer.INITIAL:
            watch.has = None
        return answered(watch, answer, nonce, error)

    def of(self, collection: str, asked_as: str) -> tuple[Watch, bool]:
        """The watch of that name, and whether it is new.

        Raises:
            ProtocolError: too many collections on one stream.
        """
        watch = self._watches.get(asked_as)
        if watch is not None:
            return watch, False
        if len(self._watches) >= MAX_WATCHES:
            raise ProtocolError(f"more than {MAX_WATCHES} collections on one stream")
        watch = self._watches[asked_as] = self.kind(collection, asked_as)
        self._of.setdefault(collection, []).append(watch)
        return watch, True

    def due(self, version_of: Callable[[str], str]) -> list[Watch]:
        """The watches whose collection's present version is to be sent now: they are marked as on their way."""
        return [watch for collection in self._of for watch in self.due_in(collection, version_of(collection))]

    def due_in(self, collection: str, version: str) -> list[Watch]:
        """Those of one collection, which is at that version."""
        found = []
        for watch in self._of.get(collection, ()):
            if watch.pending is not None:
                self.waited += 1
            elif watch.next(version):
                found.append(watch)
        return found

    def await_more(self, size: int, collection: str, view: View) -> bool:
        """Whether a push of that collection, if it is made now, may have more bytes than that."""
        watches = self._of.get(collection, ())
        return any(watch.pending is None and watch.awaits_more(size, view) for watch in watches)

    @property
    def kept(self) -> int:
        """Bytes that are kept because the peer named or stated something."""
        return sum(watch.kept for watch in self._watches.values())

    def __len__(self) -> int:
        """How many there are."""
        return len(self._watches)

    def __iter__(self) -> Iterator[Watch]:
        """The watches, in the order in which they were asked for."""
        return iter(self._watches.values())
