"""URLs as Istio reads them. Pure."""

from __future__ import annotations

import re

from consumers.materializer.conversion.validation.findings import quoted

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_HOST = r"[^\x00-\x20\x7f/?#\[\]@:%<>\"\\^`{|}]"
_AUTHORITY = re.compile(
    rf"(?:[^\x00-\x20\x7f/?#@\[\]]*@)?(?:{_HOST}+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{0,5}})?(?=[/?#]|\Z)"
)
_REST = re.compile(r"(?:%[0-9A-Fa-f]{2}|[^%\x00-\x1f\x7f])*")
_PLUGIN_SCHEMES = frozenset({"file", "http", "https", "oci"})


def web_fault(url: str) -> str | None:
    """What is wrong with a URL of HTTP or HTTPS."""
    found = _SCHEME.fullmatch(url)
    if found is None or found[1].lower() not in {"http", "https"} or not _is_located(found[2]):
        return f"{quoted(url)} is no URL of http or https"
    return None


def plugin_fault(url: str) -> str | None:
    """What is wrong with a plugin's URL; one without a scheme is an image's."""
    found = _SCHEME.fullmatch(url)
    if found is not None:
        is_good = found[1].lower() in _PLUGIN_SCHEMES and (_is_located(found[2]) or _is_path(found[2]))
    else:
        is_good = _is_path(url) or _is_located(f"//{url}")
    return None if is_good else f"{quoted(url)} is no URL of {', '.join(sorted(_PLUGIN_SCHEMES))}, and no image"


def _is_located(rest: str) -> bool:
    """`//host:port/path`."""
    if not rest.startswith("//"):
        return False
    found = _AUTHORITY.match(rest, 2)
    return found is not None and _REST.fullmatch(rest, found.end()) is not None


def _is_path(rest: str) -> bool:
    is_path = rest.startswith("/") and (not rest.startswith("//") or rest.startswith("///"))
    return is_path and _REST.fullmatch(rest) is not None
