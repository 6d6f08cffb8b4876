"""Routes of HTTP: what they match, and what they do with a request. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.headers import (
    authority_values,
    check_operations,
    matched_name_fault,
)
from consumers.materializer.conversion.validation.names import check_labels, checked, is_label
from consumers.materializer.conversion.validation.routes import (
    check_destination,
    check_destinations,
    check_gateways,
)
from consumers.materializer.conversion.validation.string_match import check_match

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_GRPC_STATUSES = frozenset(
    {
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
    }
)
_RETRY_ON = frozenset(
    {
        *("5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx"),
        *("refused-stream", "retriable-status-codes", "retriable-headers", "envoy-ratelimited"),
        *("http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted"),
        "unavailable",
    }
)
_STATUSES = frozenset(
    {*range(100, 104), *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), *range(421, 427)}
    | {428, 429, 431, 451, *range(500, 509), 510, 511}
)
"""Those that have a name."""
_STATUS = re.compile(r"\+?0{0,9}([0-9]{3})")
_LARGE_BODY, _LARGEST_BODY = 100 * 1024, 1024 * 1024
_LEAST_PERCENT = 0.0001


def check_http_route(route: Any, resource: Resource, path: Path, *, is_delegate: bool) -> Findings:
    """`networking.HTTPRoute`."""
    yield from _check_action(route, path, is_delegate=is_delegate)
    for number, match in enumerate(route.match):
        yield from _check_match(match, resource, (*path, "match", number))
    yield from check_operations(route.headers, (*path, "headers"))
    yield from _check_cors(route.cors_policy, resource, (*path, "corsPolicy"))
    if route.HasField("fault"):
        yield from _check_fault(route.fault, (*path, "fault"))
    yield from _check_mirrors(route, path)
    if route.HasField("redirect"):
        yield from _check_redirect(route, (*path, "redirect"))
    yield from _check_body(route.direct_response.body, (*path, "directResponse", "body"))
    if route.HasField("retries"):
        yield from _check_retries(route.retries, (*path, "retries"))
    if route.HasField("rewrite"):
        yield from _check_rewrite(route.rewrite, resource, (*path, "rewrite"))
    if len([*filter(None, [route.rewrite.authority]), *filter(None, authority_values(route.headers))]) > 1:
        yield Finding((*path, "headers"), "the host is set more than once")
    yield from check_destinations(route.route, (*path, "route"))


def _check_action(route: Any, path: Path, *, is_delegate: bool) -> Findings:
    """A route does one thing: it sends on, redirects, answers, or leaves that to a delegate."""
    if route.HasField("delegate") and not is_delegate:
        yield from _apart(route, "delegate", ("redirect", "route"), path)
        return
    if route.HasField("delegate"):
        yield Finding((*path, "delegate"), "a delegate can't have a delegate")
    if route.HasField("redirect"):
        yield from _apart(route, "redirect", ("route", "fault", "rewrite", "direct_response"), path)
    elif route.HasField("direct_response"):
        yield from _apart(route, "directResponse", ("route", "fault", "rewrite"), path)
    elif not route.route:
        yield Finding(path, "one of route, redirect and directResponse is required")


def _apart(route: Any, action: str, others: Iterable[str], path: Path) -> Findings:
    set_fields = {field.name: field.json_name for field, _ in route.ListFields()}
    for other in others:
        if other in set_fields:
            yield Finding((*path, set_fields[other]), f"can't stand beside {action}")


def _check_match(match: Any, resource: Resource, path: Path) -> Findings:
    for name, one in match.headers.items():
        yield from checked(matched_name_fault(name), (*path, "headers", name))
        yield from check_match(one, resource, (*path, "headers", name))
    for name, one in match.without_headers.items():
        yield from checked(matched_name_fault(name), (*path, "withoutHeaders", name))
        if one.regex != "*":  # means any value
            yield from check_match(one, resource, (*path, "withoutHeaders", name))
    yield from check_match(match.uri, resource, (*path, "uri"), may_be_empty=True)
    for field in ("scheme", "method", "authority"):
        yield from check_match(getattr(match, field), resource, (*path, field))
    for name, one in match.query_params.items():
        yield from check_match(one, resource, (*path, "queryParams", name))
    yield from check_labels(match.source_labels, (*path, "sourceLabels"))
    yield from check_gateways(match.gateways, (*path, "gateways"))
    if match.source_namespace and not is_label(match.source_namespace):
        yield Finding((*path, "sourceNamespace"), f"{quoted(match.source_namespace)} is no namespace")


def _check_cors(policy: Any, resource: Resource, path: Path) -> Findings:
    for number, origin in enumerate(policy.allow_origins):
        place, kind = (*path, "allowOrigins", number), origin.WhichOneof("match_type")
        if kind is None or not getattr(origin, kind):
            yield Finding(place, "one of exact, prefix and regex is required")
        else:
            yield from check_match(origin, resource, place)
    if policy.allow_origin:
        yield warning((*path, "allowOrigin"), "is deprecated; use allowOrigins")


def _check_fault(fault: Any, path: Path) -> Findings:
    if not fault.HasField("abort") and not fault.HasField("delay"):
        yield Finding(path, "one of abort and delay is required")
    for name in ("abort", "delay"):
        value = getattr(fault, name).percentage.value
        if 0 < value < _LEAST_PERCENT:
            yield Finding((*path, name, "percentage"), f"{value} is neither 0 nor {_LEAST_PERCENT} or more")
    match fault.abort.WhichOneof("error_type"):
        case "grpc_status" if fault.abort.grpc_status not in _GRPC_STATUSES:
            detail = f"{quoted(fault.abort.grpc_status)} is no status of gRPC"
            yield Finding((*path, "abort", "grpcStatus"), detail)
        case "http2_error":
            yield Finding((*path, "abort", "http2Error"), "is not supported by Istio")
        case "http_status" if not 200 <= fault.abort.http_status <= 600:
            yield Finding((*path, "abort", "httpStatus"), f"{fault.abort.http_status} is not 200 to 599")
        case None if fault.HasField("abort"):
            yield warning((*path, "abort"), "does nothing: no status is set")
    if fault.delay.HasField("exponential_delay"):
        yield Finding((*path, "delay", "exponentialDelay"), "is not supported by Istio")
    if fault.delay.percent:
        yield warning((*path, "delay", "percent"), "is deprecated; use percentage")


def _check_mirrors(route: Any, path: Path) -> Findings:
    if route.HasField("mirror") and route.mirrors:
        yield Finding((*path, "mirrors"), "can't stand beside mirror")
    if route.HasField("mirror_percent"):
        yield warning((*path, "mirrorPercent"), "is deprecated; use mirrorPercentage")
        if route.mirror_percent.value > 100:
            yield Finding((*path, "mirrorPercent"), f"{route.mirror_percent.value} is not 0 to 100")
    if route.HasField("mirror"):
        yield from check_destination(route.mirror, (*path, "mirror"))
    for number, mirror in enumerate(route.mirrors):
        yield from check_destination(mirror.destination, (*path, "mirrors", number, "destination"))


def _check_redirect(route: Any, path: Path) -> Findings:
    redirect = route.redirect
    if redirect.prefix_rewrite:
        for number, match in enumerate(route.match):
            if match.HasField("uri") and match.uri.WhichOneof("match_type") != "prefix":
                place = (*path[:-1], "match", number, "uri")
                yield Finding(place, "must be a prefix, since redirect.prefixRewrite replaces it")
    texts = (redirect.uri, redirect.prefix_rewrite, redirect.authority, redirect.scheme)
    if not any(texts) and redirect.WhichOneof("redirect_port") is None:
        yield Finding(path, "one of uri, authority, scheme and port is required")
    if redirect.redirect_code and not 300 <= redirect.redirect_code <= 399:
        yield Finding((*path, "redirectCode"), f"{redirect.redirect_code} is not 300 to 399")


def _check_body(body: Any, path: Path) -> Findings:
    kind = body.WhichOneof("specifier")
    size = 0 if kind is None else len(body.string.encode() if kind == "string" else body.bytes)
    if size > _LARGEST_BODY:
        yield Finding(path, f"has {size} bytes; {_LARGEST_BODY} are the most")
    elif size > _LARGE_BODY:
        yield warning(path, f"has {size} bytes, which each sidecar is sent")


def _check_retries(retries: Any, path: Path) -> Findings:
    others = retries.HasField("per_try_timeout") or retries.retry_on or retries.HasField("retry_remote_localities")
    if not retries.attempts and others:
        yield Finding((*path, "attempts"), "is 0, which turns retries off; nothing else may be set then")
    for policy in retries.retry_on.split(",") if retries.retry_on else ():
        status = _STATUS.fullmatch(policy)
        if policy not in _RETRY_ON and (status is None or int(status[1]) not in _STATUSES):
            yield Finding((*path, "retryOn"), f"{quoted(policy)} is no condition of a retry")


def _check_rewrite(rewrite: Any, resource: Resource, path: Path) -> Findings:
    by_pattern = rewrite.HasField("uri_regex_rewrite")
    if rewrite.uri and by_pattern:
        yield Finding((*path, "uriRegexRewrite"), "can't stand beside uri")
    if not (rewrite.uri or by_pattern or rewrite.authority):
        yield Finding(path, "one of uri, uriRegexRewrite and authority is required")
    if by_pattern:
        place = (*path, "uriRegexRewrite")
        if not rewrite.uri_regex_rewrite.rewrite:
            yield Finding(place, "rewrite is required")
        yield from resource.patterns.check(rewrite.uri_regex_rewrite.match, (*place, "match"))
