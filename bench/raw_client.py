"""An MCP client that does as little as it can: it notes when each version came, and acknowledges.

    python -m bench.raw_client ADDRESS OUT [nacos] [incremental]

Writes a line `version seconds bytes` per push to OUT. A process of its own, so that it shares no interpreter
with what is measured; it decodes nothing but the version, which stands first in the message.
"""

from __future__ import annotations

import queue
import sys
import time
from pathlib import Path

import grpc

from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources

COLLECTION = "istio/networking/v1alpha3/serviceentries"


def follow(address: str, out: Path) -> None:
    """Follows until the stream ends or the process does."""
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    incremental = "incremental" in sys.argv[3:]
    requests.put(RequestResources(collection=COLLECTION, incremental=incremental).SerializeToString())
    options = (("grpc.max_receive_message_length", -1),)
    with grpc.insecure_channel(address, options=options) as channel, out.open("w", buffering=1) as lines:
        stream = channel.stream_stream("/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream")
        for data in stream(iter(requests.get, None)):
            version = version_of(data)
            lines.write(f"{version} {time.time():.6f} {len(data)}\n")
            nonce = version if "nacos" not in sys.argv[3:] else nonce_of(data)
            answer = RequestResources(collection=COLLECTION, response_nonce=nonce, incremental=incremental)
            requests.put(answer.SerializeToString())


def version_of(data: bytes) -> str:
    """`system_version_info`, field 1, when it stands first; else empty."""
    return data[2 : 2 + data[1]].decode() if data[:1] == b"\x0a" else ""


def nonce_of(data: bytes) -> str:
    """`nonce`, field 5, read from the end of the message where Nacos's own server writes it."""
    at = data.rfind(b"\x2a")
    return data[at + 2 : at + 2 + data[at + 1]].decode(errors="replace")


if __name__ == "__main__":
    follow(sys.argv[1], Path(sys.argv[2]))
