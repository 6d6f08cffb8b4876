"""Times of records as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(us: int) -> str:
    """Microseconds since 1970 as ISO 8601, UTC; as the number itself where there is no such date."""
    try:
        return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{us} us after 1970"
