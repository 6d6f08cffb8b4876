"""What can go wrong between a Nacos cluster and the log.

ProducerError
└── NacosError
    ├── NacosUnavailableError   the server can't be reached, is starting, or the connection ended
    ├── NacosRefusedError       the server answered with an error code
    │   └── NacosForbiddenError     it does not let us in
    └── NacosGarbageError       the server sent what the protocol does not know
"""


class ProducerError(Exception):
    """The root of this package's errors."""


class NacosError(ProducerError):
    """Something about a Nacos server; `cause` is a short word fit for a metric label."""

    cause = "other"


class NacosUnavailableError(NacosError):
    """The server can't be reached, is still starting, or the connection to it ended; worth another try."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause


class NacosRefusedError(NacosError):
    """The server answered with an error code."""

    cause = "refused"

    def __init__(self, what: str, code: int, message: str) -> None:
        super().__init__(f"{what}: Nacos answered {code}: {message[:200]}")
        self.code = code


class NacosForbiddenError(NacosRefusedError):
    """The server does not let us in, not even with a new token."""

    cause = "forbidden"

    def __init__(self, what: str, code: int, username: str | None) -> None:
        remedy = (
            f"user {username!r} may not do this: check its password (nacos.password_file) and its permissions"
            if username
            else "the server wants a login: set nacos.username and nacos.password_file"
        )
        super().__init__(what, code, remedy)


class NacosGarbageError(NacosError):
    """The server sent what the protocol does not know; nothing of it is used."""

    cause = "garbage"
