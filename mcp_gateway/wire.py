"""Length-delimited protobuf fields, written around bytes that are encoded already. Pure."""

from functools import lru_cache

from schemas.varint import varint


@lru_cache(maxsize=4096)
def delimiter(tag: int, size: int) -> bytes:
    """What stands before `size` bytes in the field with that tag byte (field number * 8 + 2)."""
    return bytes((tag,)) + varint(size)


def delimited(tag: int, body: bytes) -> bytes:
    """The field with that tag byte that holds `body`."""
    return delimiter(tag, len(body)) + body


def text(tag: int, value: str) -> bytes:
    """The field with that tag byte that holds the text; nothing for an empty one, as protobuf has it."""
    return delimited(tag, value.encode()) if value else b""
