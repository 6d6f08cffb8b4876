"""What stops a process, said so that its operator can act.

ShellError
├── SettingsError       settings that can't be used: every fault at once, each with its name
├── KafkaUnusableError  Kafka can't be reached, or refuses for good
└── PortBusyError       an address that another process listens on
"""


class ShellError(Exception):
    """The root of this package's errors: their text is meant for a person, no stack trace belongs to it."""


class SettingsError(ShellError):
    """Settings that can't be used."""


class KafkaUnusableError(ShellError):
    """Kafka can't be reached, or refuses for good (fenced, unauthorized)."""


class PortBusyError(ShellError):
    """An address to listen on is taken."""
