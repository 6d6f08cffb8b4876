"""A client of a gateway, over MCP or ADS: it acknowledges each push as a Pilot does."""

from __future__ import annotations

import queue
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from schemas.protobuf.envoy_discovery.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resource, Resources
from schemas.protobuf.istio_networking.service_entry_pb2 import ServiceEntry

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.keepalive_time_ms", 30_000))
_CLIENT_ID = "shiplog-watch"
_NO_MORE = None
"""Ends the stream of requests, which gRPC reads on a thread of its own."""
SERVICE_ENTRY = "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A full push: every resource of a collection."""

    collection: str
    version: str
    resources: dict[str, Resource]
    message: bytes


def entry_of(resource: Resource) -> ServiceEntry | None:
    """The ServiceEntry in a resource; None when it holds something else."""
    if resource.body.type_url != SERVICE_ENTRY:
        return None
    return ServiceEntry.FromString(resource.body.value)


def pushes_over_mcp(address: str, collection: str) -> Iterator[Pushed]:
    """Pushes of a collection, each acknowledged; raises grpc.RpcError when the stream ends."""
    requests: queue.SimpleQueue[RequestResources | None] = queue.SimpleQueue()
    first = RequestResources(collection=collection)
    first.sink_node.id = _CLIENT_ID
    requests.put(first)
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        stream = channel.stream_stream(
            "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream",
            request_serializer=RequestResources.SerializeToString,
        )
        try:
            for data in stream(iter(requests.get, _NO_MORE)):
                push = Resources.FromString(data)
                yield Pushed(
                    collection=push.collection,
                    version=push.system_version_info,
                    resources={resource.metadata.name: resource for resource in push.resources},
                    message=data,
                )
                requests.put(RequestResources(collection=push.collection, response_nonce=push.nonce))
        finally:
            requests.put(_NO_MORE)


def pushes_over_ads(address: str, type_url: str) -> Iterator[Pushed]:
    """Pushes of a type such as `networking.istio.io/v1/ServiceEntry`, each acknowledged."""
    requests: queue.SimpleQueue[DiscoveryRequest | None] = queue.SimpleQueue()
    first = DiscoveryRequest(type_url=type_url)
    first.node.id = _CLIENT_ID
    requests.put(first)
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        stream = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=DiscoveryRequest.SerializeToString,
        )
        try:
            for data in stream(iter(requests.get, _NO_MORE)):
                push = DiscoveryResponse.FromString(data)
                resources = [Resource.FromString(entry.value) for entry in push.resources]
                yield Pushed(
                    collection=push.type_url,
                    version=push.version_info,
                    resources={resource.metadata.name: resource for resource in resources},
                    message=data,
                )
                requests.put(
                    DiscoveryRequest(
                        type_url=push.type_url, version_info=push.version_info, response_nonce=push.nonce
                    )
                )
        finally:
            requests.put(_NO_MORE)
