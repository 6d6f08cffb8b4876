"""What can go wrong between a Nacos cluster and the log.

ProducerError
└── NacosError
    ├── NacosUnavailableError   the server can't be reached, is starting, or the connection ended
    ├── NacosRefusedError       the server answered with an error code
    └── NacosGarbageError       the server sent what the protocol does not know
"""


class ProducerError(Exception):
    """The root of this package's errors."""


class NacosError(ProducerError):
    """Something about a Nacos server."""


class NacosUnavailableError(NacosError):
    """The server can't be reached, is still starting, or the connection to it ended; worth another try."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class NacosRefusedError(NacosError):
    """The server answered with an error code."""

    def __init__(self, what: str, code: int, message: str) -> None:
        super().__init__(f"{what}: Nacos answered {code}: {message[:200]}")
        self.code = code


class NacosGarbageError(NacosError):
    """The server sent what the protocol does not know; nothing of it is used."""
