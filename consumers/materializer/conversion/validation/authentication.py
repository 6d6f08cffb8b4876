"""PeerAuthentication and RequestAuthentication. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.names import checked
from consumers.materializer.conversion.validation.selection import check_policy_targets, check_selector
from consumers.materializer.conversion.validation.urls import web_fault

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}
"""What a key of each type must have. https://www.rfc-editor.org/rfc/rfc7518#section-6"""
_CURVES = {"EC": {"P-256", "P-384", "P-521"}, "OKP": {"Ed25519", "X25519"}}
_BASE64 = re.compile("[-A-Za-z0-9_+/]+={0,2}")


def check_peer_authentication(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all
    """`security.PeerAuthentication`."""
    if message.HasField("selector"):
        yield from check_selector(message.selector.match_labels, (*path, "selector", "matchLabels"))
    if message.port_level_mtls and not message.selector.match_labels:
        yield Finding((*path, "portLevelMtls"), "needs a selector with labels")


def check_request_authentication(message: Any, resource: Resource, path: Path) -> Findings:  # noqa: ARG001 - as all
    """`security.RequestAuthentication`."""
    yield from check_policy_targets(message, path)
    for number, rule in enumerate(message.jwt_rules):
        place = (*path, "jwtRules", number)
        if not rule.issuer and not rule.jwks_uri:
            yield Finding(place, "issuer or jwksUri is required")
        if rule.jwks_uri:
            yield from checked(web_fault(rule.jwks_uri), (*place, "jwksUri"))
        if rule.jwks:
            yield from _check_keys(rule.jwks, (*place, "jwks"))


def _check_keys(text: str, path: Path) -> Findings:
    """A set of keys as JSON, or a single one."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        yield Finding(path, "is no set of keys (JWKS) in JSON")
        return
    keys = found["keys"] if isinstance(found.get("keys"), list) else [found]
    for number, key in enumerate(keys):
        if (fault := _key_fault(key)) is not None:
            yield Finding(path, f"key {number} {fault}")
        elif "d" in key or key["kty"] == "oct":
            yield warning(path, f"key {number} is a private one; the public part is enough")


def _key_fault(key: Any) -> str | None:
    kind = key.get("kty") if isinstance(key, dict) else None
    if not isinstance(kind, str) or kind not in _MEMBERS:
        return f"has a type (kty) that is none of {', '.join(_MEMBERS)}"
    for member in _MEMBERS[kind]:
        value = key.get(member)
        if not isinstance(value, str) or not _BASE64.fullmatch(value):
            return f"has no {member}"
    curve = key.get("crv")
    return None if kind not in _CURVES or curve in _CURVES[kind] else f"has an unknown curve {quoted(curve)}"
