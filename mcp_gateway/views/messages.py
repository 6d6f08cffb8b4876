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
"""Kept of one content: peers choose the names in a form, and could fill the memory with them."""


@dataclass(slots=True)
class Messages:
    """Each push as it was first encoded, as long as a view has that content."""

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
            self._encoded.pop(content, None)

    def get(self, content: Content, form: Form) -> bytes | None:
        """The message, if it was encoded before."""
        forms = self._encoded.get(content)
        return None if forms is None else forms.get(form)

    def keep(self, content: Content, form: Form, message: bytes) -> bytes:
        """The same message, from now on for all; content that no view holds is not kept."""
        if content in self._views:
            forms = self._encoded.setdefault(content, {})
            if len(forms) >= MAX_FORMS:
                del forms[next(iter(forms))]
            forms[form] = message
        return message

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return sum(len(message) for forms in list(self._encoded.values()) for message in list(forms.values()))
