"""What can go wrong with a command.

CommandError
├── PrerequisiteError   a program, a jar or a port that a command needs is missing or taken
├── StackError          a part of the local stack did not start, or ended
├── DecisionRefusedError    an operator's decision can't be carried out
├── UnreadableItemError     the text of a config item can't be read
└── NotVerifiedError    the log does not give what was published
"""


class CommandError(Exception):
    """The root of this package's errors: their text is for a person."""


class PrerequisiteError(CommandError):
    """A program or a port that a command needs."""


class StackError(CommandError):
    """A part of the local stack did not start, or ended."""


class DecisionRefusedError(CommandError):
    """An operator's decision can't be carried out; the text says why."""


class UnreadableItemError(CommandError):
    """The text of a config item can't be read: there is no such file, or it is no text."""


class NotVerifiedError(CommandError):
    """The log does not give what was published."""
