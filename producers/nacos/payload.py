"""Nacos's gRPC envelope: a type name, headers, and JSON in an `Any` without a type URL."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from google.protobuf.message import DecodeError

from producers.errors import NacosGarbageError
from schemas.protobuf.nacos_grpc.payload_pb2 import Payload

GARBAGE = ""
"""The type under which a message that can't be decoded is handed on; its body says why."""


class Envelope(NamedTuple):
    """A decoded message: the type is the simple name of Nacos's Java class."""

    type: str
    body: dict[str, Any]


def encode(type_name: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    """The bytes of a message.

    Raises:
        NacosGarbageError: something in it is no Unicode, as in a name that a server stated.
    """
    payload = Payload()
    try:
        payload.metadata.type = type_name
        if headers:
            payload.metadata.headers.update(headers)
        payload.body.value = orjson.dumps(body)
    except (TypeError, ValueError) as error:
        raise NacosGarbageError(f"a {type_name!r:.80} that can't be encoded: {error}") from error
    return payload.SerializeToString()


def decode(data: bytes) -> Envelope:
    """The message in `data`.

    Raises:
        NacosGarbageError: not the envelope, or not a JSON object in it.
    """
    try:
        payload = Payload.FromString(data)
        body = orjson.loads(payload.body.value or b"{}")
    except (DecodeError, ValueError) as error:
        raise NacosGarbageError(f"an undecodable message: {error}") from error
    if not isinstance(body, dict):
        raise NacosGarbageError(f"a {payload.metadata.type} that holds a {type(body).__name__}")
    return Envelope(payload.metadata.type, body)
