"""Encoded pushes, shared by all streams of all views. Pure.

Two views whose collections have equal versions have equal content, so the same message serves both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp_gateway.views.view import MessageFormat

    Content = tuple[str, str]
    """A collection, and its version."""

    Form = tuple[type[MessageFormat], str, str | None]
    """A protocol's format, what the peer calls the collection, and the version that the push differs from."""

MAX_FORMS = 64
"""Kept of one content: peers choose which versions they acknowledge, and each is another difference."""
MAX_BYTES = 512 * 1024 * 1024
"""Of all messages together, unless the gateway's settings say otherwise."""


@dataclass(slots=True)
class Messages:
    """Each push as it was first encoded, as long as a view has that content and there is room.

    At most `max_bytes` are kept, or the last message alone; the first ones go first. A message that is not kept is
    encoded anew for the next stream.
    """

    max_bytes: int = MAX_BYTES
    size: int = 0
    _views: dict[Content, int] = field(default_factory=dict)
    _encoded: dict[Content, dict[Form, bytes]] = field(default_factory=dict)

    def hold(self, content: Content) -> None:
        """A view has this content now."""
        self._views[content] = self._views.get(content, 0) + 1

    def release(self, content: Content) -> None:
        """A view has it no longer."""
        views = self._views[content] - 1
        if views:
            self._views[content] = views
        else:
            del self._views[content]
            for message in self._encoded.pop(content, {}).values():
                self.size -= len(message)

    def get(self, content: Content, form: Form) -> bytes | None:
        """The message, if it is kept."""
        forms = self._encoded.get(content)
        return None if forms is None else forms.get(form)

    def keep(self, content: Content, form: Form, message: bytes) -> bytes:
        """The same message, from now on for all; content that no view holds is not kept."""
        if content not in self._views:
            return message
        forms = self._encoded.get(content, {})
        if form in forms:
            self._drop(content, form)
        elif len(forms) >= MAX_FORMS:
            self._drop(content, next(iter(forms)))
        while self._encoded and self.size + len(message) > self.max_bytes:
            first = next(iter(self._encoded))
            self._drop(first, next(iter(self._encoded[first])))
        self._encoded.setdefault(content, {})[form] = message
        self.size += len(message)
        return message

    def _drop(self, content: Content, form: Form) -> None:
        """Forgets a message, and the content with its last one: none stands here without any."""
        forms = self._encoded[content]
        self.size -= len(forms.pop(form))
        if not forms:
            del self._encoded[content]
