"""Moments as people write them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shiplog.errors import CommandError

_AGO = re.compile(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+)s)?\s+ago")
_FORMS = "2026-11-23T14:03:00+01:00, '2026-11-23 14:03 Europe/Berlin', 14:03 (today), '2h ago', '1d 6h ago', now"


def parse_time(text: str, now: datetime) -> int:
    """The moment in milliseconds (UTC); without a zone it is UTC.

    Raises:
        CommandError: it is none; the text shows the forms.
    """
    text = text.strip()
    if text == "now":
        return _ms(now)
    ago = _AGO.fullmatch(text)
    if ago is not None and any(ago.groups()):
        days, hours, minutes, seconds = (int(group or 0) for group in ago.groups())
        return _ms(now - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))
    clock, _, zone = text.rpartition(" ")
    if not clock or "/" not in zone:
        clock, zone = text, "UTC"
    if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", clock):
        clock = f"{now.astimezone(_zone(zone)):%Y-%m-%d}T{clock:0>5}"
    try:
        found = datetime.fromisoformat(clock)
    except ValueError as error:
        raise CommandError(f"{text!r} is no time; write for example {_FORMS}") from error
    return _ms(found if found.tzinfo is not None else found.replace(tzinfo=_zone(zone)))


def format_ms(ms: int) -> str:
    """A moment in ISO 8601, UTC, to the millisecond; the number itself where there is no such date."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms after 1970"


def format_us(us: int) -> str:
    """As `format_ms`, from microseconds."""
    return format_ms(us // 1000)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CommandError(f"no such time zone: {name}") from error


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
