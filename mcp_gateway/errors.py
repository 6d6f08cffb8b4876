"""What can go wrong between a gateway and a Pilot; each ends that Pilot's stream, and no other.

GatewayError
├── ProtocolError     the peer broke the protocol
├── FellBehindError   what the peer has is no longer known: it may come back, and begin anew
├── NotAllowedError   the peer's identity is not allowed here, or has no view
├── NotKnownYetError  a namespace of the peer's view is not known yet
├── TooManyError      a limit on streams is reached
├── TooMuchError      a limit on what is kept for a peer is reached
├── StalledError      the peer does not answer
│   └── UnreadError   it does not even read
├── CallLostError     the call was cancelled, and not by its owner
├── InternalFaultError a fault of the gateway
└── StoppingError     the gateway is going

CacheFileError        a file of the cache on disk can't be used: it costs its namespace
"""


class GatewayError(Exception):
    """The root of this package's errors; the text is sent to the peer. `reason` stands in logs and metrics."""

    reason = "gateway"


class ProtocolError(GatewayError):
    """The peer broke the protocol."""

    reason = "protocol"


class FellBehindError(GatewayError):
    """What the peer has is no longer known, so that it can't be sent the difference; it may connect again."""

    reason = "fell_behind"


class NotAllowedError(GatewayError):
    """The peer's identity is not allowed here, or has no view."""

    reason = "identity"


class NotKnownYetError(GatewayError):
    """A namespace of the peer's view is not known yet: an answer without it would remove it from the peer."""

    reason = "not_known_yet"


class TooManyError(GatewayError):
    """A limit on streams is reached."""

    reason = "too_many_streams"


class StalledError(GatewayError):
    """The peer does not answer."""

    reason = "stalled"


class UnreadError(StalledError):
    """The peer does not read, so that it can't even be told."""


class TooMuchError(GatewayError):
    """A limit on the bytes that are kept for a peer, or for all, is reached."""

    reason = "too_much_kept"


class CallLostError(GatewayError):
    """The call under the stream was cancelled, by the peer or by gRPC, while the stream was served."""

    reason = "call_lost"


class InternalFaultError(GatewayError):
    """A fault of the gateway; the trace is in its log."""

    reason = "internal"


class StoppingError(GatewayError):
    """The gateway is going; another one has the same."""

    reason = "stopping"


class CacheFileError(Exception):
    """A file of the cache can't be used; `reason` is short and fit for a metric's label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
