"""The single fields of security, telemetry and extensions: what the schemas of Istio's API server hold. Pure."""

from __future__ import annotations

import re

from consumers.materializer.conversion.validation.facts import (
    MANY,
    NO_STAR,
    NOT_EMPTY,
    PERCENT,
    PORT,
    SELECTED,
    Exclusion,
    Facts,
    MessageFacts,
    items,
    text,
)

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_ACCOUNTS = Facts(size=(0, 16), length=(1, 320))
_NAMED = MessageFacts(required=("name",), fields={"name": NOT_EMPTY})
_VALUED = MessageFacts(required=("value",), fields={"value": NOT_EMPTY})
_HEADER = Facts(pattern=re.compile("[-_A-Za-z0-9]+"), kind="name of a header")

TYPE = {
    "PolicyTargetReference": MessageFacts(
        required=("kind", "name"),
        fields={
            "group": Facts(
                length=(0, 253), pattern=re.compile(rf"|{_LABEL}(?:\.{_LABEL})*"), kind="group of an API"
            ),
            "kind": Facts(
                length=(1, 63), pattern=re.compile("[a-zA-Z](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"), kind="kind"
            ),
            "name": text(253, least=1),
            "namespace": Facts(length=(0, 0)),
        },
    ),
    "PortSelector": MessageFacts(required=("number",), fields={"number": PORT}),
    "WorkloadSelector": MessageFacts(
        fields={
            "match_labels": Facts(
                size=(0, 4096),
                length=(0, 63),
                pattern=NO_STAR,
                kind="text without *",
                keys=Facts(length=(1, MANY), pattern=NO_STAR, kind="key without *"),
            )
        }
    ),
}
SECURITY = {
    "AuthorizationPolicy": MessageFacts(one_of=(SELECTED,), fields={"rules": items(512), "targetRefs": items(16)}),
    "ClaimToHeader": MessageFacts(required=("header", "claim"), fields={"header": _HEADER, "claim": NOT_EMPTY}),
    "Condition": MessageFacts(required=("key",)),
    "JWTHeader": _NAMED,
    "JWTRule": MessageFacts(
        one_of=(("jwks_uri", "jwks"),),
        fields={
            "audiences": NOT_EMPTY,
            "from_cookies": NOT_EMPTY,
            "from_params": NOT_EMPTY,
            "issuer": NOT_EMPTY,
            "jwks_uri": text(2048, least=1),
            "space_delimited_claims": Facts(size=(0, 64), length=(1, MANY)),
        },
    ),
    "PeerAuthentication": MessageFacts(
        fields={"port_level_mtls": Facts(size=(1, MANY), keys=Facts(number=(1, 65535)))}
    ),
    "RequestAuthentication": MessageFacts(
        one_of=(SELECTED,), fields={"jwt_rules": items(4096), "targetRefs": items(16)}
    ),
    "Rule": MessageFacts(fields={"from": items(512, least=1), "to": items(MANY, least=1)}),
    "Source": MessageFacts(
        one_of=tuple(
            (accounts, other)
            for accounts in ("service_accounts", "not_service_accounts")
            for other in ("principals", "not_principals", "namespaces", "not_namespaces")
        ),
        fields={"service_accounts": _ACCOUNTS, "not_service_accounts": _ACCOUNTS},
    ),
}
TELEMETRY = {
    "MetricSelector": MessageFacts(fields={"custom_metric": NOT_EMPTY}),
    "MetricsOverrides.TagOverride": MessageFacts(
        excluded=(Exclusion("operation", re.compile("REMOVE"), "value"),)
    ),
    "ProviderRef": _NAMED,
    "Telemetry": MessageFacts(one_of=(SELECTED,), fields={"targetRefs": items(16)}),
    "Tracing": MessageFacts(fields={"random_sampling_percentage": PERCENT}),
    "Tracing.Environment": _NAMED,
    "Tracing.Formatter": _VALUED,
    "Tracing.Literal": _VALUED,
    "Tracing.RequestHeader": _NAMED,
}
EXTENSIONS = {
    "EnvVar": MessageFacts(
        required=("name",),
        excluded=(Exclusion("value_from", re.compile("HOST"), "value"),),
        fields={"name": text(256, least=1), "value": text(2048)},
    ),
    "VmConfig": MessageFacts(unique=(("env", "name"),), fields={"env": items(256)}),
    "WasmPlugin": MessageFacts(
        required=("url",),
        one_of=(SELECTED,),
        fields={
            "image_pull_secret": text(253, least=1),
            "plugin_name": text(256, least=1),
            "sha256": Facts(pattern=re.compile("|[a-f0-9]{64}"), kind="SHA-256 as 64 hexadecimal digits"),
            "targetRefs": items(16),
            "url": NOT_EMPTY,
        },
    ),
    "WasmPlugin.TrafficSelector": MessageFacts(unique=(("ports", "number"),)),
}
PROXY = {
    "ProxyConfig": MessageFacts(
        fields={"environment_variables": text(2048), "concurrency": Facts(number=(0, MANY))}
    )
}
