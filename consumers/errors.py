"""What can go wrong while the log is folded.

ConsumerError
├── ConversionError     a resource that Pilots would not accept
└── RecoveryError       the log no longer holds what recovery needs
"""


class ConsumerError(Exception):
    """The root of this package's errors."""


class ConversionError(ConsumerError):
    """A resource that Pilots would not accept; `reason` is fit for a metric label."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RecoveryError(ConsumerError):
    """The log no longer holds what recovery needs."""
