"""What can go wrong between a Nacos cluster and the log.

ProducerError
└── NacosError
    ├── NacosUnavailableError   the server can't be reached, is starting, or the connection ended
    │   └── NacosLoginError         the login was refused, or waits after a refusal
    ├── NacosRefusedError       the server answered with an error code
    │   └── NacosForbiddenError     the user may not do this
    └── NacosGarbageError       the server sent what the protocol does not know

A NacosUnavailableError is about a server or a connection. The two others are about what was asked for: the same
question about another service may well be answered.
"""

_REFUSED_FOR_LONG = frozenset({400, -400, 401, 403})
"""Codes of parameters that a server does not take, and of rights that the user does not have."""


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


class NacosLoginError(NacosUnavailableError):
    """The login was refused; until the next attempt nothing that needs it can be asked."""

    def __init__(self, code: int, username: str) -> None:
        super().__init__("forbidden", f"login: Nacos answered {code}: {_remedy(username)}")
        self.code = code
        self.username = username


class NacosRefusedError(NacosError):
    """The server answered with an error code."""

    cause = "refused"

    def __init__(self, what: str, code: int, message: str) -> None:
        super().__init__(f"{what}: Nacos answered {code}: {message[:200]}")
        self.code = code

    @property
    def is_lasting(self) -> bool:
        """Whether the same question would be refused again soon."""
        return self.code in _REFUSED_FOR_LONG


class NacosForbiddenError(NacosRefusedError):
    """The server does not let us do this, not even with a new token."""

    cause = "forbidden"

    def __init__(self, what: str, code: int, username: str | None) -> None:
        super().__init__(what, code, _remedy(username))


class NacosGarbageError(NacosError):
    """The server sent what the protocol does not know; nothing of it is used."""

    cause = "garbage"


def _remedy(username: str | None) -> str:
    if username is None:
        return "the server wants a login: set nacos.username and nacos.password_file"
    return f"user {username!r} may not do this: check its password (nacos.password_file) and its permissions"
