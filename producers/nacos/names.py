"""Which names a server may state for namespaces, groups, services and config items. Pure."""

from __future__ import annotations

from typing import TypeGuard

_LONGEST = 1024
"""Characters; Nacos allows 512 at most. A longer name would be repeated in every record and every push."""
_LONGEST_NAMESPACE = 256
_KEY_SEPARATOR = "|"
"""Separates the parts of a record's key, the namespace among them."""


def is_name(value: object) -> TypeGuard[str]:
    """Whether this is text that every format can carry, and of a sensible length."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        return False
    try:
        value.encode()  # JSON may hold half a surrogate pair, which neither Avro nor protobuf can write
    except UnicodeEncodeError:
        return False
    return True


def is_namespace(value: object) -> TypeGuard[str]:
    """Whether this can be a namespace's id."""
    return is_name(value) and len(value) <= _LONGEST_NAMESPACE and _KEY_SEPARATOR not in value
