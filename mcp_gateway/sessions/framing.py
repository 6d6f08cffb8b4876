"""Length-delimited protobuf fields, written around bytes that are encoded already."""


def delimited(tag: int, body: bytes) -> bytes:
    """The field with that tag byte (field number * 8 + 2) that holds `body`."""
    out = bytearray((tag,))
    size = len(body)
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out) + body
