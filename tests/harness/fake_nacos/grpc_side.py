"""The fake server's gRPC: connections, subscriptions, pushes, fuzzy watch, config listening."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from producers.nacos.payload import decode, encode
from schemas.protobuf.nacos_grpc.payload_pb2 import Payload
from tests.harness.fake_nacos.registry import md5

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.harness.fake_nacos.registry import Key, Registry

_FUZZY_BATCH = 10
_MATCHES_OVER_LIMIT = 50311


@dataclass(slots=True, eq=False)
class Connection:
    """One client: what it subscribed to, and what is to be sent to it."""

    peer: str
    namespace: str
    out: asyncio.Queue[bytes | None] = field(default_factory=asyncio.Queue)
    subscribed: set[Key] = field(default_factory=set)
    listening: set[Key] = field(default_factory=set)
    acknowledged: int = 0


class GrpcSide:
    """Handles calls; all on one event loop."""

    def __init__(self, registry: Registry, *, version: str, token_of: Callable[[], str | None]) -> None:
        self.registry = registry
        self._token_of = token_of
        self.connections: dict[str, Connection] = {}
        self.opened = 0
        self._is_new = version.startswith("3")
        self._ids = itertools.count(1)
        self.most_matches = 500
        """Services that a pattern matches at most; 3.x leaves out the others and says nothing of them."""
        self._matched: dict[str, set[str]] = {}
        self._watchers: dict[str, list[Connection]] = {}

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        return [
            grpc.method_handlers_generic_handler(
                "Request", {"request": grpc.unary_unary_rpc_method_handler(self._request)}
            ),
            grpc.method_handlers_generic_handler(
                "BiRequestStream", {"requestBiStream": grpc.stream_stream_rpc_method_handler(self._stream)}
            ),
        ]

    def push(self, key: Key, info: dict[str, Any] | None = None, *, times: int = 1) -> int:
        """Pushes a service to its subscribers; how many there are."""
        info = info or self.registry.service_info(key)
        reached = [one for one in self.connections.values() if key in one.subscribed]
        for connection in reached:
            for _ in range(times):
                self.send(connection, "NotifySubscriberRequest", {"serviceInfo": info})
        return len(reached)

    def send(self, connection: Connection, type_name: str, body: dict[str, Any]) -> None:
        connection.out.put_nowait(encode(type_name, {"requestId": str(next(self._ids)), **body}))

    def send_raw(self, data: bytes) -> None:
        for connection in self.connections.values():
            connection.out.put_nowait(data)

    def end_streams(self) -> None:
        """A clean end of every stream."""
        for connection in self.connections.values():
            connection.out.put_nowait(None)

    def name_changed(self, key: Key, change: str) -> None:
        """As Nacos 3.0.3: beyond its limit it passes over additions; a removal makes room, and nobody is told."""
        matched, name = self._matched.get(key[0]), "@@".join(key)
        if matched is None:
            return
        if change == "ADD_SERVICE":
            if name in matched or len(matched) >= self.most_matches:
                return
            matched.add(name)
        elif name in matched:
            matched.discard(name)
            self._match(key[0])
        else:
            return
        for connection in self._watchers[key[0]]:
            body = {"serviceKey": name, "changedType": change}
            self.send(connection, "NamingFuzzyWatchChangeNotifyRequest", body)

    def config_changed(self, key: Key) -> None:
        for connection in self.connections.values():
            if key in connection.listening:
                body = {"tenant": self._tenant(key[0]), "group": key[1], "dataId": key[2]}
                self.send(connection, "ConfigChangeNotifyRequest", body)

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        connection = Connection(context.peer(), "")
        reader = asyncio.create_task(self._read(requests, connection))
        try:
            while (data := await connection.out.get()) is not None:
                yield data
        finally:
            reader.cancel()
            self.connections.pop(connection.peer, None)

    async def _read(self, requests: AsyncIterator[bytes], connection: Connection) -> None:
        async for data in requests:
            message = decode(data)
            if message.type == "ConnectionSetupRequest":
                connection.namespace = message.body["tenant"] or "public"
                self.connections[connection.peer] = connection
                self.opened += 1
                self.send(connection, "SetupAckRequest", {"abilityTable": {"fuzzyWatch": self._is_new}})
                if self.registry.faults.reset_at_once:
                    self.send(connection, "ConnectResetRequest", {})
            else:
                connection.acknowledged += 1

    async def _request(self, data: bytes, context: Any) -> bytes:
        faults = self.registry.faults
        while faults.silent:  # noqa: ASYNC110 - a switch of the test's thread
            await asyncio.sleep(0.1)
        message = decode(data)
        self.registry.asked.append(message.type)
        if message.type == "ServerCheckRequest":
            if faults.starting:
                return _refusal(300, "server is starting")
            return _answer(message.type, {"connectionId": context.peer(), "supportAbilityNegotiation": True})
        token = Payload.FromString(data).metadata.headers.get("accessToken")
        if self._token_of() and (token != self._token_of() or token in faults.refuse_tokens):
            return _refusal(403, "token invalid")
        if faults.busy:
            return _refusal(503, "server is over load")
        connection = self.connections.get(context.peer())
        if connection is None or faults.not_registered:
            return _refusal(301, "not registered")
        if faults.cancelled is not None and faults.cancelled(message.type):
            self.send(connection, "ConnectResetRequest", {})
            await asyncio.sleep(30)  # the call is cancelled with the connection
        if faults.config_center_away and message.type.startswith("Config"):
            return _refusal(500, "no datasource set")
        return self._handle(connection, message.type, message.body)

    def _handle(self, connection: Connection, kind: str, body: dict[str, Any]) -> bytes:
        match kind:
            case "SubscribeServiceRequest" | "ServiceQueryRequest":
                key = (body["namespace"], body["groupName"], body["serviceName"])
                if code := self.registry.refusal(*key[1:]):
                    return _refusal(code, "Param check invalid" if code == 400 else "Validate Authority failed.")
                if kind == "SubscribeServiceRequest" and self.registry.faults.refused_subscriptions > 0:
                    self.registry.faults.refused_subscriptions -= 1
                    return _refusal(500, "not now")
                if kind == "SubscribeServiceRequest":
                    (connection.subscribed.add if body["subscribe"] else connection.subscribed.discard)(key)
                return _answer(kind, {"serviceInfo": self.registry.service_info(key)})
            case "NamingFuzzyWatchRequest":
                return self._watch_names(connection, set(body["receivedGroupKeys"]))
            case "ConfigBatchListenRequest":
                return self._listen(connection, body["configListenContexts"])
            case "ConfigQueryRequest" if code := self.registry.refusal(body["group"], body["dataId"]):
                return _refusal(code, "Validate Authority failed.")
            case "ConfigQueryRequest":
                text = self.registry.configs.get((body["tenant"] or "public", body["group"], body["dataId"]))
                if text is None:
                    return _refusal(300, "config data not exist")
                return _answer(kind, {"content": text, "md5": md5(text), "contentType": "yaml"})
            case _:
                return _answer(kind, {})

    def _watch_names(self, connection: Connection, received: set[str]) -> bytes:
        if self.registry.faults.patterns_over_limit:
            return _refusal(self.registry.faults.patterns_over_limit, "over limit")
        watchers = self._watchers.setdefault(connection.namespace, [])
        watchers[:] = [one for one in watchers if one.peer in self.connections and one is not connection]
        watchers.append(connection)
        matched = self._match(connection.namespace)
        missing = [name for name in matched if name not in received]
        for first in range(0, len(missing), _FUZZY_BATCH):
            contexts = [
                {"serviceKey": name, "changedType": "ADD_SERVICE"}
                for name in missing[first : first + _FUZZY_BATCH]
            ]
            self.send(connection, "NamingFuzzyWatchSyncRequest", {"contexts": contexts})
        self.send(connection, "NamingFuzzyWatchSyncRequest", {"syncType": "FINISH_FUZZY_WATCH_INIT_NOTIFY"})
        if len(matched) >= self.most_matches:
            return _refusal(_MATCHES_OVER_LIMIT, "fuzzy watch pattern matched count over limit")
        return _answer("NamingFuzzyWatchRequest", {})

    def _match(self, namespace: str) -> set[str]:
        """The names that the namespace's pattern matches, up to the limit."""
        matched = self._matched.setdefault(namespace, set())
        for key, _ in self.registry.of(namespace):
            if len(matched) >= self.most_matches:
                break
            matched.add("@@".join(key))
        return matched

    def _listen(self, connection: Connection, contexts: list[dict[str, Any]]) -> bytes:
        changed = []
        for context in contexts:
            if code := self.registry.refusal(context["group"], context["dataId"]):
                return _refusal(code, "Param check invalid")
            key = (context["tenant"] or "public", context["group"], context["dataId"])
            connection.listening.add(key)
            text = self.registry.configs.get(key)
            if (md5(text) if text is not None else "") != context["md5"]:
                changed.append({"tenant": context["tenant"], "group": key[1], "dataId": key[2]})
        return _answer("ConfigChangeBatchListenRequest", {"changedConfigs": changed})

    def _tenant(self, namespace: str) -> str:
        return "" if namespace == "public" and not self._is_new else namespace


def _answer(request: str, body: dict[str, Any]) -> bytes:
    kind = (
        "QueryServiceResponse"
        if request == "ServiceQueryRequest"
        else request.removesuffix("Request") + "Response"
    )
    return encode(kind, {"resultCode": 200, "errorCode": 0, **body})


def _refusal(code: int, message: str) -> bytes:
    return encode("ErrorResponse", {"resultCode": 500, "errorCode": code, "message": message})
