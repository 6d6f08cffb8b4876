"""The server's side of a Delta ADS stream. Pure.

A client subscribes to a type as a whole, by naming nothing in its first request or `*` in any, or to resources
by name. What it has from before it says in its first request. A request with a nonce answers a push; one
without may come at any time, to subscribe or unsubscribe. A name that is subscribed to is answered even if the
client had it, or if there is no such resource: that is said as its removal.

                      subscribe             unsubscribe          ACK, NACK            new version
    of everything     answer the names      ask no more of them  as any watch         send the difference
      with `*`        -                     go over to names     -                    -
    of names          answer the names      ask no more of them  told, or not told    send those that differ
      with `*`        send all the rest     -                    -                    -
    of nothing left   answer the names      -                    -                    nothing

One message is on its way; what comes meanwhile waits for its answer. Who let go of everything and wants it again
has to connect again: what it kept of a push that was on its way then can't be known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_gateway.errors import FellBehindError, ProtocolError
from mcp_gateway.sessions.ads import WILDCARD, before_in_any, bytes_of_name, node_of
from mcp_gateway.sessions.known_types import UNANSWERED, collection_of
from mcp_gateway.sessions.session import MAX_NAMES, NOBODY, Node, Received, Watches, answered
from mcp_gateway.sessions.watch import Answer, Watch
from mcp_gateway.views.stated import stated
from mcp_gateway.wire import delimited, delimiter, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mcp_gateway.resources import EncodedResource
    from mcp_gateway.views.view import MessageFormat, View
    from schemas.protobuf.envoy_discovery.discovery_pb2 import DeltaDiscoveryRequest

# Of `DeltaDiscoveryResponse`: fields 1, 2, 4, 5, 6.
_VERSION_TAG, _RESOURCES_TAG, _TYPE_URL_TAG, _NONCE_TAG, _REMOVED_TAG = 0x0A, 0x12, 0x22, 0x2A, 0x32
_RESOURCE_VERSION, _RESOURCE_BODY, _RESOURCE_NAME = 0x0A, 0x12, 0x1A  # Resource: fields 1, 2, 3


class DeltaAdsFormat:
    """A push as `DeltaDiscoveryResponse`; its nonce is its version."""

    def before(self, resource: EncodedResource) -> bytes:
        """The resource is the last field of an entry of `resources`, behind its version and name."""
        in_any = before_in_any(resource.size)
        before = (
            delimited(_RESOURCE_VERSION, resource.version.encode())
            + delimited(_RESOURCE_NAME, resource.name.encode())
            + delimiter(_RESOURCE_BODY, len(in_any) + resource.size)
            + in_any
        )
        return delimiter(_RESOURCES_TAG, len(before) + resource.size) + before

    def envelope(self, name: str, version: str, removed: Sequence[str] | None) -> tuple[bytes, bytes]:
        """The version before the resources; type URL, nonce and removals after them."""
        gone = b"".join([delimited(_REMOVED_TAG, one.encode()) for one in removed or ()])
        return text(_VERSION_TAG, version), text(_TYPE_URL_TAG, name) + text(_NONCE_TAG, version) + gone


@dataclass(slots=True)
class DeltaWatch(Watch):
    """A watch of a type as a whole, or of resources by name.

    `told` are the versions last sent of those subscribed to by name, empty for one that is not there. `asked_for`
    are names just subscribed to, which are answered whatever the client has. `compared` is the version at which
    those subscribed to by name were last looked at; `pending_whole` says that the push on its way is of all.
    """

    wildcard: bool = False
    told: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    asked_for: set[str] = field(default_factory=set)
    compared: str | None = None
    gave_up_all: bool = False
    pending_whole: bool = False
    pending_names: frozenset[str] = frozenset()
    pending_bytes: int = 0
    incremental: bool = True

    @property
    def kept(self) -> int:
        """As for any watch; names of the push that is on its way are kept after they are unsubscribed, too."""
        return max(self.names_bytes, self.pending_bytes) + (0 if self.has is None else self.has.bytes)

    def subscribe(self, names: Iterable[str], without: Iterable[str]) -> None:
        """Adds to the subscription, and takes from it.

        Raises:
            ProtocolError: too many names.
            FellBehindError: all of them, again.
        """
        for name in names:
            if name == WILDCARD:
                self._want_all()
                continue
            self.asked_for.add(name)
            if name not in self.names:
                self.names.add(name)
                self.names_bytes += bytes_of_name(name)
        for name in without:
            if name == WILDCARD and self.wildcard:
                self._give_up_all()
            if name in self.names:
                self.names.remove(name)
                self.names_bytes -= bytes_of_name(name)
            self.asked_for.discard(name)
            self.told.pop(name, None)
        if len(self.names) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} names of {self.asked_as}: subscribe to all of them")

    def _want_all(self) -> None:
        if self.wildcard:
            return
        if self.gave_up_all:
            # What it kept of what was on its way when it let go can't be known.
            raise FellBehindError(f"{self.asked_as}: to subscribe to all of them again, connect again")
        self.wildcard = True
        self.acknowledged = self.refused = None
        self.pending_whole = False  # what is on its way may be kept in part only
        self.has = stated({name: version for name, version in self.told.items() if version})

    def _give_up_all(self) -> None:
        self.wildcard, self.gave_up_all = False, True
        # Pushes of all told of those subscribed to by name as well, and one may still be on its way.
        self.told.clear()
        self.compared = None

    def next(self, present: str) -> bool:
        """As for any watch; names that were just subscribed to are due even at the same version."""
        if self.pending is not None:
            return False
        if self.wildcard:
            due = bool(self.asked_for) or present not in {self.acknowledged, self.refused}
        else:
            due = bool(self.names) and (bool(self.asked_for) or present != self.compared)
        if due:
            self.pending, self.pending_whole = present, self.wildcard
        return due

    def is_settled(self, present: str) -> bool:
        """As for any watch of all; resources by name are compared one by one."""
        return self.wildcard and not self.asked_for and Watch.is_settled(self, present)

    def request(self, nonce: str, *, initial: bool, error: bool) -> Answer:
        """Takes an answer; that to a push of some resources says nothing of the type as a whole."""
        former = self.acknowledged, self.has
        answer = Watch.request(self, nonce, initial=initial, error=error)
        if not self.pending_whole:
            self.acknowledged, self.has = former
            for name in self.pending_names if answer is Answer.NACK else ():
                self.told.pop(name, None)
        if answer is not Answer.STALE:
            self.pending_names, self.pending_bytes = frozenset(), 0
        return answer

    def message(self, view: View, message_format: MessageFormat) -> bytes | None:
        """The push that is due; None when nothing of what is subscribed to differs.

        Raises:
            FellBehindError: what the client has is forgotten, so it can't be told what to let go of.
        """
        if not self.wildcard:
            known = view.known(self.collection)
            due = {name for name in self.names if self.told.get(name) != known.version_of(name)}
            due |= self._take_asked_for()
            self.compared = self.pending
            if not due:
                self.pending = None
                return None
            self.pending_names, self.pending_bytes = frozenset(due), self.names_bytes
            self.told.update((name, known.version_of(name)) for name in due)
            return view.join(self.collection, message_format, self.asked_as, self.pending_names)
        asked_for = self._take_asked_for()
        self.compare(view)
        basis = self.basis
        if basis is None:
            return view.message(self.collection, message_format, self.asked_as)
        if isinstance(basis, str) and not asked_for:
            message = view.difference(self.collection, message_format, self.asked_as, basis)
        else:
            lacking = view.known(self.collection).lacking(basis)
            names = None if lacking is None else lacking | asked_for
            message = None if names is None else view.join(self.collection, message_format, self.asked_as, names)
        if message is None:
            raise FellBehindError(
                f"{self.asked_as}: too many changes since your last acknowledgement; connect again"
            )
        return message

    def _take_asked_for(self) -> set[str]:
        asked_for, self.asked_for = self.asked_for, set()
        return asked_for


@dataclass(slots=True)
class DeltaAdsSession:
    """One client's stream; `node` is what it called itself.

    `also_answered` are patterns of types beyond Istio's that are answered empty.
    """

    also_answered: tuple[str, ...] = ()
    node: Node = NOBODY
    watches: Watches = field(default_factory=lambda: Watches(kind=DeltaWatch))

    def receive(self, request: DeltaDiscoveryRequest) -> Received | None:
        """Takes a request; None for one that is never answered.

        Raises:
            ProtocolError: not a type of Istio's configuration, or too many types or names on one stream.
            FellBehindError: it has to connect again.
        """
        if request.HasField("node") and not self.watches:
            self.node = node_of(request.node)
        if request.type_url in UNANSWERED:
            return None
        collection = collection_of(request.type_url, self.also_answered)
        watch, is_new = self.watches.of(collection, request.type_url)
        if not isinstance(watch, DeltaWatch):  # never: the watches of this session are
            raise ProtocolError("a watch of another protocol")
        if is_new:
            named = {name for name in request.resource_names_subscribe if name != WILDCARD}
            watch.wildcard = not named or WILDCARD in request.resource_names_subscribe
            has = request.initial_resource_versions
            watch.told = {name: has[name] for name in named if name in has}
            if watch.wildcard:
                watch.has = stated(has)
        watch.subscribe(request.resource_names_subscribe, request.resource_names_unsubscribe)
        if is_new:
            # What the client says that it has need not be sent again.
            watch.asked_for -= watch.told.keys()
            return Received(watch, Answer.INITIAL)
        if not request.response_nonce:
            return Received(watch, Answer.SUBSCRIPTION)
        error = request.error_detail if request.HasField("error_detail") else None
        answer = watch.request(request.response_nonce, initial=False, error=error is not None)
        return answered(watch, answer, request.response_nonce, error)
