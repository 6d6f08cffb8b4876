"""Traffic policies: connections, load balancing, outliers and TLS towards a destination. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning
from consumers.materializer.conversion.validation.localities import check_locality_setting, check_zone_setting
from consumers.materializer.conversion.validation.names import domain_fault, is_address

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path
    from consumers.materializer.conversion.validation.resource import Resource

_LARGEST_TABLE = 5_000_011
_CONFIG_MAP = "configmap://"
_CONFIG_MAP_NAME = re.compile(r"configmap://([^/]+)/([^/]+)")


def check_traffic_policy(policy: Any, resource: Resource, path: Path) -> Findings:
    """`networking.TrafficPolicy`."""
    if not policy.ListFields():
        yield Finding(path, "must have a field")
    if policy.HasField("tunnel") and policy.HasField("proxy_protocol"):
        yield Finding((*path, "proxyProtocol"), "can't stand beside tunnel")
    yield from _check_settings(policy, resource, path)
    for number, one in enumerate(policy.port_level_settings):
        place = (*path, "portLevelSettings", number)
        if not one.HasField("port"):
            yield Finding((*place, "port"), "is required")
        if not [field for field, _ in one.ListFields() if field.name != "port"]:
            yield Finding(place, "must have a field besides its port")
        yield from _check_settings(one, resource, place)
    target = policy.tunnel.target_host
    if policy.HasField("tunnel") and not is_address(target) and domain_fault(target) is not None:
        yield Finding((*path, "tunnel", "targetHost"), f"{quoted(target)} is neither a name nor an IP address")


def _check_settings(policy: Any, resource: Resource, path: Path) -> Findings:
    """What a policy for all ports and one for a single port have in common."""
    if policy.HasField("outlier_detection"):
        yield from _check_outliers(policy.outlier_detection, (*path, "outlierDetection"))
    if policy.HasField("connection_pool"):
        yield from check_connection_pool(policy.connection_pool, (*path, "connectionPool"))
    if policy.HasField("load_balancer"):
        has_outliers = policy.HasField("outlier_detection")
        yield from _check_load_balancer(policy.load_balancer, (*path, "loadBalancer"), has_outliers=has_outliers)
    if policy.HasField("tls"):
        yield from _check_tls(policy.tls, resource, (*path, "tls"))


def _check_outliers(outliers: Any, path: Path) -> Findings:
    if outliers.consecutive_errors:
        yield warning(
            (*path, "consecutiveErrors"), "is deprecated; use consecutive5xxErrors or consecutiveGatewayErrors"
        )
    local = outliers.consecutive_local_origin_failures.value
    if local and not outliers.split_external_local_origin_errors:
        yield Finding((*path, "consecutiveLocalOriginFailures"), "needs splitExternalLocalOriginErrors")


def check_connection_pool(pool: Any, path: Path) -> Findings:
    """`networking.ConnectionPoolSettings`."""
    if not pool.ListFields():
        yield Finding(path, "one of tcp and http is required")
    if pool.http.h2_upgrade_policy == pool.http.UPGRADE and pool.http.use_client_protocol:
        yield Finding((*path, "http", "useClientProtocol"), "can't be true where h2UpgradePolicy is UPGRADE")


def _check_load_balancer(settings: Any, path: Path, *, has_outliers: bool) -> Findings:
    if settings.HasField("consistent_hash"):
        yield from _check_hash(settings.consistent_hash, (*path, "consistentHash"))
    if settings.HasField("locality_lb_setting") and settings.HasField("zone_aware_lb_setting"):
        yield Finding((*path, "zoneAwareLbSetting"), "can't stand beside localityLbSetting")
    if settings.HasField("locality_lb_setting"):
        place = (*path, "localityLbSetting")
        yield from check_locality_setting(settings.locality_lb_setting, place, has_outliers=has_outliers)
    if settings.HasField("zone_aware_lb_setting"):
        place = (*path, "zoneAwareLbSetting")
        yield from check_zone_setting(settings.zone_aware_lb_setting, place, has_outliers=has_outliers)
    if settings.HasField("warmup_duration_secs"):
        yield warning((*path, "warmupDurationSecs"), "is deprecated; use warmup")
    if settings.warmup.HasField("aggression") and settings.warmup.aggression.value <= 0:
        yield Finding((*path, "warmup", "aggression"), "must be more than 0")


def _check_hash(settings: Any, path: Path) -> Findings:
    cookie, names = settings.http_cookie, set()
    if settings.HasField("http_cookie") and not cookie.name:
        yield Finding((*path, "httpCookie", "name"), "must not be empty")
    for number, attribute in enumerate(cookie.attributes):
        if not attribute.name or attribute.name in names:
            fault = "stands in an earlier attribute too" if attribute.name else "must not be empty"
            yield Finding((*path, "httpCookie", "attributes", number, "name"), fault)
        names.add(attribute.name)
    if settings.minimum_ring_size:
        yield warning((*path, "minimumRingSize"), "is deprecated; use ringHash")
        if settings.WhichOneof("hash_algorithm") is not None:
            yield Finding((*path, "minimumRingSize"), "can't stand beside ringHash or maglev")
    table = settings.maglev.table_size
    if settings.HasField("maglev") and not (table < _LARGEST_TABLE and _is_prime(table)):
        yield Finding((*path, "maglev", "tableSize"), f"{table} is no prime below {_LARGEST_TABLE}")


def _is_prime(number: int) -> bool:
    """As Envoy sees it, which counts 1; of numbers below the largest table."""
    if number < 4:
        return number > 0
    return number % 2 == 1 and all(number % factor for factor in range(3, math.isqrt(number) + 1, 2))


def _check_tls(tls: Any, resource: Resource, path: Path) -> Findings:
    """`networking.ClientTLSSettings`."""
    if tls.credential_name.startswith(_CONFIG_MAP):
        found = _CONFIG_MAP_NAME.fullmatch(tls.credential_name)
        if found is None or found[1] != resource.namespace:
            yield Finding((*path, "credentialName"), f"must be {_CONFIG_MAP}{resource.namespace}/NAME")
    by_file = tls.mode in {tls.SIMPLE, tls.MUTUAL}
    if tls.insecure_skip_verify.value and by_file:
        has_names = tls.ca_certificates or tls.subject_alt_names
        if has_names or (tls.mode == tls.SIMPLE and tls.credential_name):
            yield Finding((*path, "insecureSkipVerify"), "can't be true where there is what to verify by")
    if by_file and tls.credential_name:
        for field in ("client_certificate", "ca_certificates", "private_key", "ca_crl"):
            if getattr(tls, field):
                name = tls.DESCRIPTOR.fields_by_name[field].json_name
                yield Finding((*path, name), "can't stand beside credentialName")
    elif tls.mode == tls.MUTUAL:
        for field, name in (("client_certificate", "clientCertificate"), ("private_key", "privateKey")):
            if not getattr(tls, field):
                yield Finding((*path, name), "is required with mode MUTUAL, unless there is credentialName")
