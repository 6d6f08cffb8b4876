"""What can go wrong for a reader of the log."""


class ConsumerError(Exception):
    """The text says what is wrong and what to do."""


class NotRebuiltError(ConsumerError):
    """A former version could not be rebuilt; the text says why."""


class NotCarriedOutError(ConsumerError):
    """A fault of ours kept an operator's decision from being carried out; the text names it."""


class BadBundleError(ConsumerError):
    """An exported piece of the log is not whole, or not what was exported; the text says what is wrong."""
