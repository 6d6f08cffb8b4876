"""What stops a process, said so that its operator can act.

ShellError
├── SettingsError       settings that can't be used: every fault at once, each with its name
├── KafkaUnusableError  Kafka can't be reached, or refuses for good
├── PortBusyError       an address that another process listens on
└── PartFailedError     a task or thread that the process can't do without ended
"""


class ShellError(Exception):
    """The root of this package's errors: their text is meant for a person, no stack trace belongs to it."""


class SettingsError(ShellError):
    """Settings that can't be used."""


class KafkaUnusableError(ShellError):
    """Kafka can't be reached, or refuses for good (fenced, unauthorized)."""


class PortBusyError(ShellError):
    """An address to listen on is taken."""


class PartFailedError(ShellError):
    """A task or thread ended that the process can't do without, and that can't be started again by itself.

    The process ends with this error, for its supervisor to start it anew; what ended the part was logged as
    `part_failed`, with a trace unless it is an error of this package.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"the {part} ended ({reason}); the process ends so that it can be started anew")
        self.part = part
        self.reason = reason
