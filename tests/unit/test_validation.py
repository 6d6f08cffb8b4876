"""What Istio refuses of its own kinds is refused, with the field; what it takes is taken; its warnings are told."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import yaml

from consumers.materializer.conversion import FIRST_REVISION
from consumers.materializer.conversion.config_item import BadItemError, convert_item, read_item
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.conversion.validation.checks import CHECKS
from consumers.materializer.conversion.validation.schema import FACTS
from consumers.materializer.reporting import Reporting, namespace_page
from consumers.settings import ConversionSettings
from schemas.events import ConfigGone, ConfigKey, ConfigState
from tests.harness.istio_items import EXAMPLES
from tests.property.hostile import Way
from tests.unit.conversions import PUBLIC

SETTINGS = ConversionSettings()
TO = "route: [{destination: {host: a}}]"


def item(kind: str, spec: str, **metadata: Any) -> str:
    """A document of a kind, its body as YAML."""
    head = f"{KINDS[kind].group}/{KINDS[kind].versions[-1]}"
    shown = yaml.safe_dump({"name": "a", "namespace": "shop"} | metadata, default_flow_style=True).strip()
    return f"apiVersion: {head}\nkind: {kind}\nmetadata: {shown}\nspec: {spec}\n"


def route(fields: str) -> str:
    """A VirtualService with a route of HTTP."""
    return item("VirtualService", f"{{hosts: [a.b], http: [{{{fields}}}]}}")


def policy(fields: str) -> str:
    """A DestinationRule with a traffic policy."""
    return item("DestinationRule", f"{{host: a, trafficPolicy: {{{fields}}}}}")


def entry(fields: str, hosts: str = "[a.b]") -> str:
    """A ServiceEntry."""
    return item("ServiceEntry", f"{{hosts: {hosts}, {fields}}}")


def gateway(fields: str) -> str:
    """A Gateway with one server."""
    return item("Gateway", f"{{servers: [{{hosts: [a.b], {fields}}}]}}")


def rule(fields: str, action: str = "ALLOW") -> str:
    """An AuthorizationPolicy with one rule."""
    return item("AuthorizationPolicy", f"{{action: {action}, rules: [{{{fields}}}]}}")


CLASSES = "\\PL" * 100
"""Classes of Unicode, which take long to read although nothing is left of them."""
PORT = "ports: [{number: 80, name: http, protocol: HTTP}]"
HTTP = "port: {number: 80, name: http, protocol: HTTP}"
HTTPS = "port: {number: 443, name: https, protocol: HTTPS}"


@pytest.mark.parametrize(
    ("text", "field", "detail"),
    [
        (route(f"match: [{{uri: {{regex: '^/x(?!y)$'}}}}], {TO}"), "http[0].match[0].uri.regex", "RE2"),
        (route(f"match: [{{uri: {{regex: '(a)\\1'}}}}], {TO}"), "uri.regex", "RE2"),
        (route(f"match: [{{headers: {{x: {{regex: 'a++'}}}}}}], {TO}"), "headers.x.regex", "RE2"),
        (route(f"match: [{{uri: {{regex: '{'x' * 1025}'}}}}], {TO}"), "uri.regex", "1024"),
        (route(f"match: [{{uri: {{regex: ''}}}}], {TO}"), "uri.regex", "empty"),
        (route(f"match: [{{uri: {{regex: '(?:{CLASSES}){{0}}x'}}}}], {TO}"), "uri.regex", "classes"),
        (route(f"match: [{{method: {{prefix: ''}}}}], {TO}"), "method.prefix", "empty"),
        (route(f"match: [{{headers: {{'a b': {{exact: c}}}}}}], {TO}"), "headers.a b", "no name of a header"),
        (route(f"match: [{{sourceNamespace: A_b}}], {TO}"), "sourceNamespace", "no namespace"),
        (route(f"match: [{{port: 65536}}], {TO}"), "match[0].port", "0 to 65535"),
        (route(f"match: [{{gateways: [a/b/c]}}], {TO}"), "match[0].gateways[0]", "namespace/name"),
        (route(f"timeout: 1.5ms, {TO}"), "timeout", "whole milliseconds"),
        (route(f"timeout: 0s, {TO}"), "timeout", "1ms or longer"),
        (route(f"timeout: -1s, {TO}"), "timeout", "1ms or longer"),
        (route(f"timeout: 5, {TO}"), "timeout", "no duration"),
        (route(f"timeout: 3000000h, {TO}"), "timeout", "292 years"),
        (route(f"retries: {{attempts: 0, retryOn: 5xx}}, {TO}"), "retries.attempts", "turns retries off"),
        (route(f"retries: {{attempts: 1, retryOn: '5xx,often'}}, {TO}"), "retryOn", "'often'"),
        (route(f"retries: {{attempts: -1}}, {TO}"), "attempts", "0 or more"),
        (route(f"retries: {{attempts: '3'}}, {TO}"), "attempts", "no whole number"),
        (route(f"fault: {{}}, {TO}"), "fault", "abort and delay"),
        (route(f"fault: {{abort: {{httpStatus: 1000}}}}, {TO}"), "httpStatus", "200 to 599"),
        (route(f"fault: {{abort: {{grpcStatus: NEVER}}}}, {TO}"), "grpcStatus", "no status"),
        (route(f"fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 101}}}}}}, {TO}"), "value", "0 to 100"),
        (route(f"fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 1e-05}}}}}}, {TO}"), "percentage", "neither 0"),
        (route("fault: {delay: {fixedDelay: 1s}}, redirect: {uri: /a}"), "fault", "can't stand beside redirect"),
        (route(f"redirect: {{uri: /a}}, {TO}"), "route", "can't stand beside redirect"),
        (route(f"directResponse: {{status: 200}}, {TO}"), "route", "can't stand beside directResponse"),
        (route("directResponse: {status: 99}"), "status", "200 to 600"),
        (route("directResponse: {body: {string: a}}"), "directResponse", "status is required"),
        (route("directResponse: {status: 200, body: {bytes: abc}}"), "body.bytes", "no Base64"),
        (route("redirect: {}"), "redirect", "is required"),
        (route("redirect: {uri: /a, redirectCode: 200}"), "redirectCode", "300 to 399"),
        (route("redirect: {uri: /a, scheme: ftp}"), "scheme", "http or https"),
        (route("match: [{uri: {prefix: /}}]"), "http[0]", "one of route, redirect and directResponse"),
        (route(f"rewrite: {{}}, {TO}"), "rewrite", "is required"),
        (route(f"rewrite: {{uriRegexRewrite: {{match: '(', rewrite: a}}}}, {TO}"), "match", "RE2"),
        (route(f"headers: {{request: {{set: {{':path': a}}}}}}, {TO}"), "set.:path", "can't be changed"),
        (route(f"headers: {{request: {{set: {{x: 'a%b'}}}}}}, {TO}"), "set.x", "%% stands for a %"),
        (route(f"headers: {{response: {{add: {{host: a}}}}}}, {TO}"), "add.host", "can't be changed"),
        (route(f"corsPolicy: {{maxAge: 1500ms}}, {TO}"), "maxAge", "whole seconds"),
        (route(f"corsPolicy: {{allowMethods: [get]}}, {TO}"), "allowMethods[0]", "method of HTTP"),
        (route(f"corsPolicy: {{allowOrigins: [{{}}]}}, {TO}"), "allowOrigins[0]", "exact, prefix and regex"),
        (route(f"mirror: {{host: b}}, mirrors: [{{destination: {{host: c}}}}], {TO}"), "mirrors", "beside mirror"),
        (route("route: [{destination: {host: '*'}}]"), "destination.host", "* can't be a destination"),
        (route("route: [{destination: {host: a_b}}]"), "destination.host", "no label of DNS"),
        (route("route: [{destination: {host: a, port: {number: 70000}}}]"), "destination.port", "1 to 65535"),
        (route("route: [{destination: {host: a, subset: 'v 1'}}]"), "destination.subset", "no name of a subset"),
        (route("route: [{weight: 1}]"), "route[0]", "destination is required"),
        (route("route: [{destination: {host: a}, weight: -1}]"), "weight", "0 or more"),
        (route("route: [{destination: {host: a}}, {destination: {host: b}}]"), "route", "a weight"),
        (item("VirtualService", f"{{hosts: ['*'], http: [{{{TO}}}]}}"), "hosts[0]", "gateways other than mesh"),
        (item("VirtualService", f"{{hosts: [a.b, '*.b'], http: [{{{TO}}}]}}"), "hosts[0]", "covered"),
        (item("VirtualService", f"{{hosts: [a.b, a.b], http: [{{{TO}}}]}}"), "hosts[1]", "covered"),
        (item("VirtualService", f"{{hosts: [a.1], http: [{{{TO}}}]}}"), "hosts[0]", "last label is a number"),
        (item("VirtualService", "{hosts: [a.b]}"), "spec", "one of http, tls and tcp"),
        (item("VirtualService", f"{{gateways: [a], http: [{{{TO}}}]}}"), "gateways", "a delegate"),
        (item("VirtualService", f"{{hosts: [a.b], exportTo: ['*', a], http: [{{{TO}}}]}}"), "exportTo", "alone"),
        (item("VirtualService", f"{{hosts: [a.b], exportTo: [., shop], http: [{{{TO}}}]}}"), "exportTo[1]", "twice"),
        (item("VirtualService", f"{{hosts: [a.b], tls: [{{match: [{{sniHosts: [c.d]}}], {TO}}}]}}"), "sniHosts", "none of"),
        (item("VirtualService", "{hosts: [a.b], tcp: [{match: [{port: 1}]}]}"), "tcp[0]", "route is required"),
        (item("DestinationRule", "{}"), "spec", "host is required"),
        (item("DestinationRule", "{host: ''}"), "host", "empty"),
        (item("DestinationRule", "{host: a, subsets: [{name: v1}, {name: v1}]}"), "subsets[1].name", "earlier subset"),
        (item("DestinationRule", "{host: a, subsets: [{name: v.1}]}"), "subsets[0].name", "no name of a subset"),
        (item("DestinationRule", "{host: a, subsets: [{name: a, labels: {'a b': c}}]}"), "labels.a b", "no key"),
        (policy(""), "trafficPolicy", "must have a field"),
        (policy("connectionPool: {}"), "connectionPool", "tcp and http"),
        (policy("connectionPool: {tcp: {maxConnections: -1}}"), "maxConnections", "0 or more"),
        (policy("connectionPool: {tcp: {connectTimeout: 10us}}"), "connectTimeout", "1ms or longer"),
        (policy("outlierDetection: {maxEjectionPercent: 101}"), "maxEjectionPercent", "0 to 100"),
        (policy("outlierDetection: {consecutiveLocalOriginFailures: 1}"), "OriginFailures", "splitExternal"),
        (policy("loadBalancer: {consistentHash: {maglev: {tableSize: 4}}}"), "tableSize", "no prime"),
        (policy("loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}"), "httpCookie", "name is required"),
        (policy("loadBalancer: {simple: OFTEN}"), "simple", "is none of"),
        (policy("loadBalancer: {simple: 2}"), "simple", "is none of"),
        (policy("loadBalancer: {warmup: {}}"), "warmup", "duration is required"),
        (policy("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 99}}]}}"), "to", "99, not 100"),
        (policy("loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}"), "failover[0]", "the same"),
        (policy("portLevelSettings: [{tls: {mode: SIMPLE}}]"), "portLevelSettings[0].port", "is required"),
        (policy("portLevelSettings: [{port: {number: 80}}]"), "portLevelSettings[0]", "besides its port"),
        (policy("tls: {mode: MUTUAL}"), "clientCertificate", "is required"),
        (policy("tls: {mode: SIMPLE, credentialName: a, caCertificates: b}"), "caCertificates", "beside"),
        (policy("tunnel: {targetHost: a, targetPort: 0}"), "targetPort", "1 to 65535"),
        (entry(PORT, "['*']"), "hosts[0]", "can't be a host"),
        (entry(PORT, "[]"), "hosts", "empty"),
        (item("ServiceEntry", "{}"), "spec", "hosts is required"),
        (entry("ports: [{number: 70000, name: a, protocol: HTTP}]"), "number", "1 to 65535"),
        (entry("ports: [{number: 0, name: a, protocol: HTTP}]"), "number", "1 to 65535"),
        (entry("ports: [{number: 80, name: a}, {number: 81, name: a}]"), "ports[1].name", "earlier item"),
        (entry("ports: [{number: 80, name: a}, {number: 80, name: b}]"), "ports[1].number", "earlier item"),
        (entry("ports: [{number: 80, name: a_b}]"), "name", "no name of a port"),
        (entry("ports: [{number: 80, name: a, protocol: dubbo}]"), "protocol", "no protocol"),
        (entry("resolution: 99"), "resolution", "is none of"),
        (entry("resolution: MAYBE"), "resolution", "is none of"),
        (entry(f"{PORT}, resolution: STATIC, endpoints: [{{address: a.b}}]"), "address", "no IP address"),
        (entry(f"{PORT}, resolution: STATIC, endpoints: [{{address: 1.2.3.4, ports: {{x: 1}}}}]"), "ports.x", "no port"),
        (entry(f"{PORT}, resolution: STATIC, endpoints: [{{}}]"), "address", "is required"),
        (entry(f"{PORT}, endpoints: [{{address: 1.2.3.4}}]"), "endpoints", "NONE"),
        (entry(f"{PORT}, resolution: DNS, addresses: [10.0.0.0/8]"), "addresses", "NONE and STATIC"),
        (entry(f"{PORT}, resolution: DNS", "['*.b']"), "hosts[0]", "full name"),
        (entry(f"{PORT}, addresses: [10.0.0.0/33]"), "addresses[0]", "no range"),
        (entry(f"{PORT}, resolution: DYNAMIC_DNS"), "hosts[0]", "begin with"),
        (entry("ports: [{number: 1, name: a}], resolution: STATIC", "[a.b, c.d]"), "protocol", "several hosts"),
        (entry(f"{PORT}, resolution: STATIC, workloadSelector: {{labels: {{a: 'b*'}}}}"), "labels.a", "without *"),
        (gateway("port: {number: 0, name: a, protocol: HTTP}"), "port.number", "1 to 65535"),
        (gateway("port: {number: 80, name: a, protocol: X}"), "protocol", "no protocol"),
        (gateway("port: {number: 80, protocol: HTTP}"), "port", "name is required"),
        (gateway(HTTPS), "tls", "is required"),
        (gateway(f"{HTTP}, tls: {{mode: SIMPLE, credentialName: a}}"), "tls", "only httpsRedirect"),
        (gateway(f"{HTTPS}, tls: {{mode: SIMPLE}}"), "tls.privateKey", "is required"),
        (gateway(f"{HTTPS}, tls: {{mode: ISTIO_MUTUAL, credentialName: a}}"), "credentialName", "ISTIO_MUTUAL"),
        (gateway(f"{HTTP}, bind: a.b"), "bind", "no IP address"),
        (item("Gateway", "{servers: []}"), "servers", "is required"),
        (item("Gateway", f"{{servers: [{{hosts: [short], {HTTP}}}]}}"), "hosts[0]", "full name"),
        (item("Gateway", f"{{servers: [{{hosts: [a.b], {HTTP}}}, {{hosts: [a.b], {HTTP}}}]}}"), "name", "earlier server"),
        (item("Gateway", f"{{servers: [{{hosts: [a.b], {HTTP}}}]}}", name="a.b"), "metadata.name", "no dots"),
        (item("Sidecar", "{}"), "spec", "is required"),
        (item("Sidecar", "{egress: [{hosts: [a.b]}]}"), "hosts[0]", "namespace/host"),
        (item("Sidecar", "{egress: [{hosts: ['*/*']}, {hosts: ['*/*']}]}"), "egress[0]", "the last"),
        (item("Sidecar", "{ingress: [{port: {number: 1, protocol: HTTP}, defaultEndpoint: 'a:1'}]}"), "Endpoint", "Unix"),
        (item("EnvoyFilter", "{configPatches: [{patch: {operation: REMOVE}}]}"), "applyTo", "is required"),
        (item("EnvoyFilter", "{configPatches: [{applyTo: CLUSTER, patch: {operation: ADD}}]}"), "value", "is required"),
        (
            item("EnvoyFilter", "{configPatches: [{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: REMOVE}}]}"),
            "match", "must match a cluster",
        ),
        (item("WorkloadEntry", "{}"), "address", "is required"),
        (item("WorkloadEntry", "{address: a_b}"), "address", "neither"),
        (item("WorkloadEntry", "{address: 'unix:///a', ports: {}}"), "ports", "can't be set"),
        (item("WorkloadGroup", "{}"), "spec", "template is required"),
        (item("WorkloadGroup", "{template: {}, probe: {httpGet: {port: 0}}}"), "port", "1 to 65535"),
        (item("WorkloadGroup", "{template: {}, probe: {periodSeconds: -1, tcpSocket: {port: 1}}}"), "period", "0 or more"),
        (item("PeerAuthentication", "{portLevelMtls: {'80': {mode: STRICT}}}"), "portLevelMtls", "needs a selector"),
        (
            item("PeerAuthentication", "{selector: {matchLabels: {a: b}}, portLevelMtls: {'0': {mode: STRICT}}}"),
            "portLevelMtls.0", "1 to 65535",
        ),
        (item("RequestAuthentication", "{jwtRules: [{}]}"), "jwtRules[0]", "is required"),
        (item("RequestAuthentication", "{jwtRules: [{jwksUri: 'ftp://a'}]}"), "jwksUri", "no URL"),
        (item("RequestAuthentication", "{jwtRules: [{issuer: a, jwks: '{}'}]}"), "jwks", "kty"),
        (item("RequestAuthentication", "{jwtRules: [{issuer: a, fromHeaders: [{}]}]}"), "fromHeaders", "name is req"),
        (
            item("RequestAuthentication", "{selector: {}, targetRefs: [{kind: Service, name: a}]}"),
            "targetRefs", "can't stand together",
        ),
        (item("AuthorizationPolicy", "{action: DENY}"), "rules", "is required"),
        (item("AuthorizationPolicy", "{action: CUSTOM, rules: [{}]}"), "provider.name", "is required"),
        (item("AuthorizationPolicy", "{targetRef: {kind: Pod, name: a}}"), "targetRef.kind", "can't be a target"),
        (item("AuthorizationPolicy", "{}", annotations={"istio.io/dry-run": "x"}), "dry-run", "neither true"),
        (rule("from: []"), "from", "empty"),
        (rule("from: [{source: {}}]"), "from[0].source", "empty"),
        (rule("from: [{source: {ipBlocks: [a]}}]"), "ipBlocks[0]", "neither"),
        (rule("to: [{operation: {ports: ['70000']}}]"), "ports[0]", "no port"),
        (rule("to: [{operation: {paths: ['/{a}']}}]"), "paths[0]", "braces"),
        (rule("when: [{key: source.color, values: [a]}]"), "key", "no attribute"),
        (rule("when: [{key: source.ip}]"), "values", "is required"),
        (rule("from: [{source: {namespaces: [a]}}]", "CUSTOM"), "", "CUSTOM"),
        (item("ProxyConfig", "{concurrency: -1}"), "concurrency", "0 or more"),
        (item("Telemetry", "{tracing: [{randomSamplingPercentage: 101}]}"), "Percentage", "0 to 100"),
        (item("Telemetry", "{metrics: [{providers: [{}]}]}"), "providers[0]", "name is required"),
        (item("Telemetry", "{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}"), "a.value", "UPSERT"),
        (item("WasmPlugin", "{}"), "spec", "url is required"),
        (item("WasmPlugin", "{url: 'ftp://a'}"), "url", "no URL"),
        (item("WasmPlugin", "{url: a.b/c, sha256: abc}"), "sha256", "64 hexadecimal"),
        (item("WasmPlugin", "{url: a.b/c, match: [{ports: [{number: 0}]}]}"), "number", "1 to 65535"),
        (item("Gateway", "{}", annotations={"internal.istio.io/parents": "x"}), "parents", "Istio's own"),
    ],
)  # fmt: skip
def test_what_istio_refuses_is_refused_with_its_field(text: str, field: str, detail: str) -> None:
    """Each rule by itself; the first revision of the conversion took nearly all of it."""
    with pytest.raises(BadItemError) as raised:
        convert_item(SETTINGS, PUBLIC, text)
    assert field in raised.value.field
    assert detail in str(raised.value)
    assert raised.value.line in {3, 4}


@pytest.mark.parametrize("text", EXAMPLES)
def test_what_istio_takes_is_taken(text: str) -> None:
    """Items with most of the fields that there are rules for."""
    assert read_item(SETTINGS, PUBLIC, text).resources


@pytest.mark.parametrize(
    "text",
    [
        item("VirtualService", f"{{http: [{{{TO}}}]}}"),
        route(f"match: [{{uri: {{prefix: ''}}}}], {TO}"),
        route(f"cors_policy: {{max_age: 1h}}, {TO}"),
        route(f"headers: {{request: {{set: {{x: '100%% %REQ(:path)%'}}}}}}, {TO}"),
        route(f"timeout: .5s, {TO}"),
        item("VirtualService", f"{{hosts: [a.b., 10.0.0.1], http: [{{{TO}}}]}}"),
        policy("connectionPool: {tcp: {idleTimeout: 0s}}"),
        entry(f"{PORT}, exportTo: ['~']"),
        entry(f"{PORT}, resolution: STATIC"),
        entry("ports: [{number: 80, name: a, protocol: gRPC-Web}]"),
        item("AuthorizationPolicy", "{}"),
        item("WorkloadEntry", "{network: a}"),
        item("WasmPlugin", "{url: 10.0.0.1:5000/a}"),
        item("PeerAuthentication", "{}"),
    ],
)  # fmt: skip
def test_what_is_odd_and_legal_stays_legal(text: str) -> None:
    """A VirtualService without hosts is a delegate, a service may have no endpoints, names may end in a dot."""
    assert convert_item(SETTINGS, PUBLIC, text)


@pytest.mark.parametrize(
    ("text", "field", "detail"),
    [
        (route(f"mirrorPercent: 5, mirror: {{host: b}}, {TO}"), "mirrorPercent", "deprecated"),
        (policy("outlierDetection: {consecutiveErrors: 5}"), "consecutiveErrors", "deprecated"),
        (item("EnvoyFilter", "{}", namespace="istio-system"), "metadata.namespace", "every proxy"),
        (item("VirtualService", f"{{hosts: [a.b], http: [{{{TO}}}, {{{TO}}}]}}"), "http[1]", "never used"),
        (rule("to: [{operation: {methods: [GET]}}]", "DENY"), "rules[0]", "not HTTP"),
        (item("Sidecar", "{workloadSelector: {}, egress: [{hosts: ['*/*']}]}"), "workloadSelector", "all workloads"),
    ],
)  # fmt: skip
def test_what_istio_warns_of_is_told(text: str, field: str, detail: str) -> None:
    """The resource is taken; the warning names line and field."""
    found = read_item(SETTINGS, PUBLIC, text)
    assert len(found.resources) == 1
    (warning,) = found.warnings
    assert warning.startswith("line ")
    assert field in warning
    assert detail in warning


def test_the_first_revision_validates_nothing_of_it() -> None:
    """Its snapshots stay what they were."""
    for text in (
        item("DestinationRule", "{}"), entry("resolution: 99", "['*']"), route("timeout: 1.5ms"), route("retries: {attempts: '3'}"),
    ):  # fmt: skip
        assert convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)
        with pytest.raises(BadItemError):
            convert_item(SETTINGS, PUBLIC, text)
    text = item("EnvoyFilter", "{}").replace("v1alpha3", "v1")
    assert convert_item(SETTINGS, PUBLIC, text, FIRST_REVISION)
    with pytest.raises(BadItemError, match=r"v1 is none of networking\.istio\.io/v1alpha3"):
        convert_item(SETTINGS, PUBLIC, text)
    with pytest.raises(BadItemError, match="Telemetry is none of"):
        convert_item(SETTINGS, PUBLIC, item("Telemetry", "{}"), FIRST_REVISION)


def test_the_tables_name_fields_that_there_are() -> None:
    """A misspelt name would be a rule that never holds; and each kind has its check."""
    assert set(CHECKS) == set(KINDS)
    messages: dict[str, Any] = {}
    waiting = [kind.descriptor for kind in KINDS.values()]
    while waiting:
        message = waiting.pop()
        if message.full_name not in messages:
            messages[message.full_name] = message
            waiting += [field.message_type for field in message.fields if field.message_type is not None]
    for name, facts in FACTS.items():
        known = set(messages[name].fields_by_name)
        named = {*facts.required, *facts.fields, *(one for group in facts.one_of for one in group)}
        named |= {one for one, _ in facts.unique} | {
            one for rule in facts.excluded for one in (rule.field, rule.other)
        }
        assert named <= known, name


@pytest.mark.parametrize(
    "spec",
    [
        "{hosts: [" + ",".join(f"a{n}.b" for n in range(60_000)) + f"], http: [{{{TO}}}]}}",
        "{hosts: [" + ",".join(f"'*.a{n}.b'" for n in range(40_000)) + f"], http: [{{{TO}}}]}}",
        "{http: ["
        + ",".join(f"{{match: [{{uri: {{regex: '(?:\\pL{{50}}){{19}}x{n}'}}}}], {TO}}}" for n in range(900))
        + "]}",
        "{http: [{match: [" + ",".join(f"{{uri: {{regex: 'a{n}.*'}}}}" for n in range(20_000)) + f"], {TO}}}]}}",
        "{http: [" + ",".join(["{route: []}"] * 20_000) + "]}",
        "{http: [{headers: {request: {set: {x: '" + "%(" * 400_000 + f"'}}}}}}, {TO}}}]}}",
        "{http: [{headers: {request: {set: {x: '" + '%a("' * 200_000 + f"'}}}}}}, {TO}}}]}}",
        "{hosts: ['" + "a-" * 400_000 + f"'], http: [{{{TO}}}]}}",
        "{hosts: ['" + "a." * 400_000 + f"'], http: [{{{TO}}}]}}",
    ],
)
def test_a_large_item_takes_no_more_than_its_size(spec: str) -> None:
    """Seconds would hold up all other namespaces of the process; the largest item is 1 MiB."""
    began = time.process_time()
    text = item("VirtualService", spec)
    assert len(text) < 1024 * 1024
    with contextlib.suppress(BadItemError):
        convert_item(SETTINGS, PUBLIC, text)
    assert time.process_time() - began < 10


def test_faults_and_warnings_are_on_the_namespaces_page() -> None:
    """An operator finds which item is meant, with line and field; a mended one is gone from there."""
    way = Way()
    way.open()
    bad, unwise = ConfigKey("ISTIO", "bad.yaml"), ConfigKey("ISTIO", "unwise.yaml")
    warned = route(f"mirrorPercent: 5, mirror: {{host: b}}, {TO}")
    for key, text in ((bad, item("DestinationRule", "{}")), (unwise, warned)):
        way.add(ConfigState(key=key, content=text, content_type="yaml", md5=""))
    way.publish()
    page = namespace_page(Reporting().report([way.partition]), PUBLIC)
    assert page["bad_items"] == {"dc1:ISTIO/bad.yaml": "line 4, spec: host is required"}
    (warnings,) = page["item_warnings"].values()
    assert warnings == ["line 4, spec.http[0].mirrorPercent: is deprecated; use mirrorPercentage"]
    way.add(ConfigGone(key=bad))
    way.add(ConfigGone(key=unwise))
    page = namespace_page(Reporting().report([way.partition]), PUBLIC)
    assert (page["bad_items"], page["item_warnings"]) == ({}, {})
