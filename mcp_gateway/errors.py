"""What can go wrong between a gateway and a Pilot.

GatewayError
└── ProtocolError   the peer broke the protocol: its stream ends, no one else's
"""


class GatewayError(Exception):
    """The root of this package's errors."""


class ProtocolError(GatewayError):
    """The peer broke the protocol; the text is sent to it."""
