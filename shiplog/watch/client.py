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
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.protobuf.message import Message

_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.keepalive_time_ms", 30_000))
CLIENT_ID = "shiplog-watch"
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


def tls(ca: Path, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """Credentials from PEM files: who is trusted, and who we are; raises OSError when one can't be read."""
    return grpc.ssl_channel_credentials(
        ca.read_bytes(), None if key is None else key.read_bytes(), certificate and certificate.read_bytes()
    )


def pushes_over_mcp(
    address: str,
    collection: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    client_id: str = CLIENT_ID,
) -> Iterator[Pushed]:
    """Pushes of a collection, each acknowledged; raises grpc.RpcError when the stream ends."""
    first = RequestResources(collection=collection)
    first.sink_node.id = client_id

    def read(data: bytes) -> tuple[Pushed, RequestResources]:
        push = Resources.FromString(data)
        pushed = Pushed(
            collection=push.collection,
            version=push.system_version_info,
            resources={resource.metadata.name: resource for resource in push.resources},
            message=data,
        )
        return pushed, RequestResources(collection=push.collection, response_nonce=push.nonce)

    method = "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream"
    return _follow(address, credentials, method, first, read)


def pushes_over_ads(
    address: str,
    type_url: str,
    credentials: grpc.ChannelCredentials | None = None,
    *,
    client_id: str = CLIENT_ID,
) -> Iterator[Pushed]:
    """Pushes of a type such as `networking.istio.io/v1/ServiceEntry`, each acknowledged; raises as over MCP."""
    first = DiscoveryRequest(type_url=type_url)
    first.node.id = client_id

    def read(data: bytes) -> tuple[Pushed, DiscoveryRequest]:
        push = DiscoveryResponse.FromString(data)
        found = [Resource.FromString(one.value) for one in push.resources]
        pushed = Pushed(
            collection=push.type_url,
            version=push.version_info,
            resources={resource.metadata.name: resource for resource in found},
            message=data,
        )
        answer = DiscoveryRequest(
            type_url=push.type_url, version_info=push.version_info, response_nonce=push.nonce
        )
        return pushed, answer

    method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
    return _follow(address, credentials, method, first, read)


def _follow(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    method: str,
    first: Message,
    read: Callable[[bytes], tuple[Pushed, Message]],
) -> Iterator[Pushed]:
    """Sends the first request, and for each push what `read` answers to it."""
    requests: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
    requests.put(first)
    channel = (
        grpc.insecure_channel(address, options=_OPTIONS)
        if credentials is None
        else grpc.secure_channel(address, credentials, options=_OPTIONS)
    )
    with channel:
        stream = channel.stream_stream(method, request_serializer=lambda request: request.SerializeToString())
        try:
            for data in stream(iter(requests.get, _NO_MORE)):
                pushed, answer = read(data)
                yield pushed
                requests.put(answer)
        finally:
            requests.put(_NO_MORE)
