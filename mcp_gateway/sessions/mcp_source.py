"""The source's side of an MCP v1alpha1 stream. Pure.

A request is taken when its nonce is empty (it begins anew) or pending (it answers a push); others are stale.
Every collection that a Pilot lists is answered, empty ones too: until then it never becomes ready.

A push holds differences only where the latest request asked for that and the collection allows it: against the
acknowledged state, or against what a sink says it still has when it begins anew. A sink's NACK does not ask for
it, so what follows is everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mcp_gateway.patterns import matches
from mcp_gateway.sessions.known_types import mcp_collection
from mcp_gateway.sessions.session import NOBODY, Node, Received, Watches, said_of_node
from mcp_gateway.sessions.watch import Answer, Watch
from mcp_gateway.views.stated import stated
from mcp_gateway.views.synthetic import SYNTHETIC_ENTRIES
from mcp_gateway.wire import delimited, delimiter, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_gateway.resources import EncodedResource
    from mcp_gateway.views.view import MessageFormat, View
    from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

# Of `Resources`: fields 1 to 5, and 6 as it is when it is set.
_VERSION_TAG, _COLLECTION_TAG, _RESOURCES_TAG, _REMOVED_TAG, _NONCE_TAG = 0x0A, 0x12, 0x1A, 0x22, 0x2A
_INCREMENTAL = b"\x30\x01"


class McpFormat:
    """A push as `istio.mcp.v1alpha1.Resources`; its nonce is its version."""

    def before(self, resource: EncodedResource) -> bytes:
        """The resource is an entry of `resources`."""
        return delimiter(_RESOURCES_TAG, resource.size)

    def envelope(self, name: str, version: str, removed: Sequence[str] | None) -> tuple[bytes, bytes]:
        """Version and collection before the resources, the others after them: fields in ascending order."""
        head = text(_VERSION_TAG, version) + text(_COLLECTION_TAG, name)
        gone = b"".join([delimited(_REMOVED_TAG, one.encode()) for one in removed or ()])
        return head, gone + text(_NONCE_TAG, version) + (b"" if removed is None else _INCREMENTAL)


@dataclass(slots=True)
class McpWatch(Watch):
    """As any watch, but for a peculiarity of those who ask for synthetic service entries.

    Pilot 1.4 acknowledges and drops a difference that only removes, so it is sent everything instead; but not when
    nothing is left, since 1.5 ignores an empty push.
    """

    def message(self, view: View, message_format: MessageFormat) -> bytes | None:
        """The push that is due."""
        self.compare(view)
        basis = self.basis
        if self.collection == SYNTHETIC_ENTRIES and basis and view.known(self.collection).only_removes(basis):
            basis = None
        return view.message(self.collection, message_format, self.asked_as, basis)


@dataclass(slots=True)
class McpSourceSession:
    """One sink's stream; `node` is what it called itself, which a stock Pilot leaves empty.

    `incremental` are the patterns of the collections whose pushes may hold differences, `also_answered` those of
    collections beyond Istio's that are answered empty.
    """

    incremental: tuple[str, ...] = ("*",)
    also_answered: tuple[str, ...] = ()
    node: Node = NOBODY
    watches: Watches = field(default_factory=lambda: Watches(kind=McpWatch))

    def receive(self, request: RequestResources) -> Received:
        """Takes a request.

        Raises:
            ProtocolError: it names no collection of Istio's, too many of them, or itself with too long an id.
        """
        collection = mcp_collection(request.collection, self.also_answered)
        if request.HasField("sink_node") and not self.watches:
            self.node = said_of_node(request.sink_node.id, request.sink_node.annotations)
        received = self.watches.receive(
            collection,
            collection,
            request.response_nonce,
            request.error_detail if request.HasField("error_detail") else None,
            incremental=request.incremental and matches(collection, self.incremental),
        )
        if received.answer is Answer.INITIAL and received.watch.incremental:
            received.watch.has = stated(request.initial_resource_versions)
        return received
