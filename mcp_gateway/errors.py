"""What can go wrong between a gateway and a Pilot; each ends that Pilot's stream, and no one else's.

GatewayError
├── ProtocolError     the peer broke the protocol
├── FellBehindError   what the peer has is no longer known: it may come back, and begin anew
├── NotAllowedError   the peer's identity is not allowed here, or has no view
├── TooManyError      a limit on streams is reached
├── StalledError      the peer does not answer
│   └── UnreadError   it does not even read
└── StoppingError     the gateway is going
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


class TooManyError(GatewayError):
    """A limit on streams is reached."""

    reason = "too_many_streams"


class StalledError(GatewayError):
    """The peer does not answer."""

    reason = "stalled"


class UnreadError(StalledError):
    """The peer does not read, so that it can't even be told."""


class StoppingError(GatewayError):
    """The gateway is going; another one has the same."""

    reason = "stopping"
