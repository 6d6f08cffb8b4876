"""What operators see of a gateway under `/debug`: Pilots, views, snapshots; read from the admin thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_gateway.freshness import Freshness
    from mcp_gateway.servers.server import PilotServer
    from mcp_gateway.servers.stream import Stream
    from mcp_gateway.snapshot_feed import SnapshotFeed
    from mcp_gateway.store import NamespaceSnapshot
    from mcp_gateway.views.view import View
    from mcp_gateway.views.views import Views
    from runtime.admin_http import DebugPage

_SHOWN = 20


def debug_pages(
    server: PilotServer, views: Views, feed: SnapshotFeed, freshness: Freshness
) -> dict[str, DebugPage]:
    """The pages by name."""

    def pilots(_: Mapping[str, str]) -> Any:
        return {
            "in_flight_bytes": server.in_flight.bytes,
            "waiting_for_room": server.in_flight.waiting,
            "pilots": [pilot(stream) for stream in list(server.streams)],
        }

    def all_views(_: Mapping[str, str]) -> Any:
        return {
            "message_bytes": views.messages.size,
            "views": {
                name: _view(publisher.view)
                | {"followers": publisher.count(), "lacking": views.lacking(publisher.view)}
                for name, publisher in views.publishers.items()
            },
        }

    def snapshot(query: Mapping[str, str]) -> Any:
        namespace = query.get("namespace")
        held = feed.store.namespaces.get(namespace or "")
        if held is not None:
            resources = {
                f"{collection} {name}": next((one.version for one in stored.shapes if one is not None), None)
                for (collection, name), stored in list(held.resources.items())
            }
            return {"namespace": namespace, "resources": resources}
        default = next(iter(views.publishers.values())).view
        return {
            "read_at": feed.read_at,
            "kafka_silent_s": round(freshness.silent_s, 1),
            "data_age_s": round(time.time() - freshness.data_at, 1),
            "kafka_cluster": freshness.cluster,
            "at_fault": dict(feed.store.faults),
            "unknown": sorted(feed.store.unknown),
            "collections": {name: default.version(name) for name in list(default.collections)},
            "namespaces": {name: _namespace(one) for name, one in list(feed.store.namespaces.items())},
        }

    return {"pilots": pilots, "views": all_views, "snapshot": snapshot}


def pilot(stream: Stream[Any]) -> dict[str, Any]:
    """A stream as an operator sees it: plain values."""
    view, books, peer = stream.view, stream.books, stream.peer
    unanswered = books.unanswered_since
    return {
        "peer": peer.address,
        "protocol": peer.protocol,
        "identity": peer.identity,
        "node": peer.node,
        "view": peer.view,
        "connected_s": round(time.time() - books.opened_at, 1),
        "unanswered_s": unanswered and round(time.monotonic() - unanswered, 1),
        "push_to_ack_ms": None if books.latency_s is None else round(books.latency_s * 1000, 1),
        "kept_bytes": stream.kept_bytes,
        "waits_for_room": stream.in_flight.is_waiting(stream),
        "collections": {
            watch.asked_as: {
                "acknowledged": watch.acknowledged,
                "acknowledged_at": books.acknowledged_at.get(watch.asked_as),
                "pending": watch.pending,
                "refused": watch.refused,
                "is_behind": view is not None and watch.acknowledged != view.version(watch.collection),
                "versions_behind": view and view.known(watch.collection).versions_behind(watch.acknowledged),
            }
            for watch in list(stream.watches)
        },
    }


def _view(view: View) -> dict[str, Any]:
    selection = view.selection
    return {
        "namespaces": selection.namespaces,
        "datacenters": selection.shape.datacenters,
        "collections": {
            name: {
                "version": known.version,
                "resources": len(known.resources),
                "several_claim": sorted(known.rivals)[:_SHOWN],
            }
            for name, known in list(view.collections.items())
        },
        "istio_namespace": selection.shape.istio_namespace,
    }


def _namespace(held: NamespaceSnapshot) -> dict[str, Any]:
    manifest = held.manifest
    return {
        "version": manifest and manifest.version,
        "digest": manifest and manifest.digest,
        "observed_at": manifest and manifest.observed_at,
        "resources": len(held.resources),
        "matches": held.matches,
        "cached_age_s": None if held.cached_at is None else round(time.time() - held.cached_at, 1),
        "changes": [
            f"{change.kind.lower()} {change.name}" for change in (manifest.changes[:3] if manifest else ())
        ],
    }
