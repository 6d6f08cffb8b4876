"""What can go wrong between a gateway and a Pilot.

GatewayError
├── ProtocolError     the peer broke the protocol: its stream ends, no one else's
└── FellBehindError   what the peer has is no longer known: its stream ends, and it may come back
"""


class GatewayError(Exception):
    """The root of this package's errors."""


class ProtocolError(GatewayError):
    """The peer broke the protocol; the text is sent to it."""


class FellBehindError(GatewayError):
    """What the peer has is no longer known, so that it can't be sent the difference; it may connect again."""
