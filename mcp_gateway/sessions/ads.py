"""The server's side of an ADS stream, state of the world, as istiod uses it as a config source. Pure.

istiod's first request of each type carries a made-up nonce: the first request per type and stream is initial
whatever its nonce. It always acknowledges: an ACK means received, not applied. Which types are answered stands in
`known_types`.

Other clients may name the resources that they want; each request that counts replaces the list:

    list in a request       before any name was given     after
    none                    all resources                 nothing any more
    names                   those                         those; sent again if the list is another one
    `*` among them          all resources                 all resources
"""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import getsizeof
from typing import TYPE_CHECKING

from mcp_gateway.errors import ProtocolError
from mcp_gateway.sessions.known_types import UNANSWERED, collection_of
from mcp_gateway.sessions.session import MAX_NAMES, NOBODY, Node, Received, Watches, answered, said_of_node
from mcp_gateway.sessions.watch import Answer, Watch
from mcp_gateway.wire import delimited, delimiter, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_gateway.resources import EncodedResource
    from mcp_gateway.views.view import MessageFormat, View
    from schemas.protobuf.envoy_discovery.discovery_pb2 import DiscoveryRequest
    from schemas.protobuf.envoy_discovery.discovery_pb2 import Node as DiscoveryNode

WILDCARD = "*"
MCP_RESOURCE_TYPE_URL = b"type.googleapis.com/istio.mcp.v1alpha1.Resource"

# Of `DiscoveryResponse`: fields 1, 2, 4, 5.
_VERSION_TAG, _RESOURCES_TAG, _TYPE_URL_TAG, _NONCE_TAG = 0x0A, 0x12, 0x22, 0x2A
_ANY_TYPE_URL, _ANY_VALUE_TAG = delimited(0x0A, MCP_RESOURCE_TYPE_URL), 0x12  # Any: fields 1, 2


def before_in_any(size: int) -> bytes:
    """What stands before so many bytes of a resource in an encoded `Any`."""
    return _ANY_TYPE_URL + delimiter(_ANY_VALUE_TAG, size)


class AdsFormat:
    """A full push as `DiscoveryResponse` of `istio.mcp.v1alpha1.Resource`s; its nonce is its version."""

    def before(self, resource: EncodedResource) -> bytes:
        """The resource is in an `Any`, an entry of `resources`."""
        before = before_in_any(resource.size)
        return delimiter(_RESOURCES_TAG, len(before) + resource.size) + before

    def envelope(self, name: str, version: str, _: Sequence[str] | None) -> tuple[bytes, bytes]:
        """The version before the resources; the type URL that was asked for, and the nonce, after them."""
        return text(_VERSION_TAG, version), text(_TYPE_URL_TAG, name) + text(_NONCE_TAG, version)


def bytes_of_name(name: str) -> int:
    """Bytes that a name takes that is subscribed to: in up to four sets and dicts, with a version beside it."""
    return getsizeof(name) + 450


def node_of(node: DiscoveryNode) -> Node:
    """What an xDS client says of itself: texts in its metadata, and its cluster; raises as `said_of_node`."""
    texts = {name: value.string_value for name, value in node.metadata.fields.items() if value.string_value}
    return said_of_node(node.id, texts | ({"cluster": node.cluster} if node.cluster else {}))


@dataclass(slots=True)
class AdsWatch(Watch):
    """A watch on all resources of a type, or on those that are named; `asked` says that the list is another one.

    `sent` is what was sent of them last, by name and version; `answered` is the nonce of the last push, once the
    client answered it: with it, a request only brings another list.
    """

    names: frozenset[str] | None = None
    asked: bool = False
    sent: dict[str, str] | None = None
    answered: str | None = None

    def want(self, names: Sequence[str]) -> None:
        """The resources of a request that counts.

        Raises:
            ProtocolError: too many names.
        """
        if len(names) > MAX_NAMES:
            raise ProtocolError(f"more than {MAX_NAMES} names of {self.asked_as}: ask for all of them")
        wanted = None if WILDCARD in names or (not names and self.names is None) else frozenset(names)
        if wanted != self.names:
            self.names, self.asked, self.sent = wanted, True, None
            self.names_bytes = 0 if wanted is None else sum(map(bytes_of_name, wanted))

    def next(self, present: str) -> bool:
        """As for any watch; another list is due even at the same version, and an empty one never."""
        if self.pending is not None or self.names == frozenset():
            return False
        if not self.asked and present in {self.acknowledged, self.refused}:
            return False
        self.pending = present
        return True

    def is_settled(self, present: str) -> bool:
        """As for any watch; not when the list is another one."""
        return not self.asked and Watch.is_settled(self, present)

    def message(self, view: View, message_format: MessageFormat) -> bytes | None:
        """The push that is due; None when none of the named resources differs from what was sent."""
        self.asked = False
        if self.names is None:
            return view.message(self.collection, message_format, self.asked_as)
        known = view.known(self.collection)
        present = {name: known.version_of(name) for name in self.names}
        if present == self.sent:
            self.acknowledged, self.pending = self.pending, None
            return None
        self.sent = present
        return view.join(self.collection, message_format, self.asked_as, self.names)


@dataclass(slots=True)
class AdsSession:
    """One client's stream; `node` is what it called itself.

    `also_answered` are patterns of types beyond Istio's that are answered empty.
    """

    also_answered: tuple[str, ...] = ()
    node: Node = NOBODY
    watches: Watches = field(default_factory=lambda: Watches(kind=AdsWatch))

    def receive(self, request: DiscoveryRequest) -> Received | None:
        """Takes a request; None for one that is never answered.

        Raises:
            ProtocolError: not a type of Istio's configuration, or too many types or names on one stream.
        """
        if request.HasField("node") and not self.watches:
            self.node = node_of(request.node)
        if request.type_url in UNANSWERED:
            return None
        collection = collection_of(request.type_url, self.also_answered)
        watch, is_new = self.watches.of(collection, request.type_url)
        if not isinstance(watch, AdsWatch):  # never: the watches of this session are
            raise ProtocolError("a watch of another protocol")
        nonce = request.response_nonce
        error = request.error_detail if request.HasField("error_detail") else None
        answer = watch.request(nonce, initial=is_new or not nonce, error=error is not None)
        match answer:
            case Answer.INITIAL:
                watch.sent = None
            case Answer.ACK | Answer.NACK:
                watch.answered = nonce
            case Answer.STALE if nonce == watch.answered and watch.pending is None:
                answer = Answer.SUBSCRIPTION
            case _:
                pass
        if answer is not Answer.STALE:  # its list comes again with the answer to what is on its way
            watch.want(request.resource_names)
        return answered(watch, answer, nonce, error)
