"""Numbers in seven bits a byte, the lowest first: as protobuf writes sizes, and Avro all whole numbers. Pure."""


def varint(number: int) -> bytes:
    """The bytes of a number that is not negative; all but the last have their high bit set."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
