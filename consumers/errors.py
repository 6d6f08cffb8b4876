"""What can go wrong for a reader of the log."""


class ConsumerError(Exception):
    """The text says what is wrong and what to do."""


class NotRebuiltError(ConsumerError):
    """A former version could not be rebuilt; the text says why."""
