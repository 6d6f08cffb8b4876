"""Which config items the log can hold. Pure."""

from __future__ import annotations

from schemas.events import ConfigKey, ConfigState
from schemas.topics import MAX_RECORD_BYTES

MAX_CONTENT_BYTES = MAX_RECORD_BYTES - 64 * 1024


class UnusableItemError(Exception):
    """The item's text can't be stated; `reason` is a word for the quarantine."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def usable_item(key: ConfigKey, content: str, content_type: str, md5: str) -> ConfigState:
    """The item, as the log will have it.

    Raises:
        UnusableItemError: the log can't hold its text.
    """
    try:
        size = len(content.encode()) + len(key.group.encode()) + len(key.data_id.encode())
        (content_type + md5).encode()
    except UnicodeEncodeError as error:
        raise UnusableItemError("bad_text", "not Unicode") from error
    if size > MAX_CONTENT_BYTES:
        detail = f"{size} bytes are more than a record of the log may have ({MAX_CONTENT_BYTES})"
        raise UnusableItemError("too_large", detail)
    return ConfigState(key=key, content=content, content_type=content_type, md5=md5)
