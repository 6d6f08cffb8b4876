"""TLS of gateways and of sidecars' ingress. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consumers.materializer.conversion.validation.findings import Finding, quoted, warning

if TYPE_CHECKING:
    from consumers.materializer.conversion.validation.findings import Findings, Path

_CIPHERS = frozenset(
    {
        *(f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA") for cipher in (
            "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA", "AES256-SHA",
        )),
        *("AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA", "ALL", ""),
    }
)  # fmt: skip
_OWN = ("server_certificate", "private_key", "ca_certificates")
_SOURCES = ("tls_certificates", "credential_name", "credential_names")


def check_server_tls(tls: Any, path: Path) -> Findings:
    """`networking.ServerTLSSettings`."""
    yield from _check_ciphers(tls, path)
    named = [tls.DESCRIPTOR.fields_by_name[field].json_name for field in (*_OWN, *_SOURCES) if getattr(tls, field)]
    if tls.mode == tls.ISTIO_MUTUAL:
        for name in named:
            yield Finding((*path, name), "can't be set with mode ISTIO_MUTUAL")
        return
    if tls.mode in {tls.PASSTHROUGH, tls.AUTO_PASSTHROUGH} and (named or tls.ca_crl):
        yield warning(path, "certificates do nothing where TLS is passed on")
    own = bool(tls.server_certificate and tls.private_key)
    if own + sum(bool(getattr(tls, field)) for field in _SOURCES) > 1:
        sources = "credentialName, credentialNames, serverCertificate and tlsCertificates"
        yield Finding(path, f"only one of {sources} is taken")
    ends_tls = tls.mode in {tls.SIMPLE, tls.MUTUAL, tls.OPTIONAL_MUTUAL}
    if ends_tls and not (tls.credential_name or tls.credential_names):
        yield from _check_certificates(tls, path)
    if tls.ca_crl and tls.credential_name:
        yield Finding((*path, "caCrl"), "can't stand beside credentialName, which holds it")
    if tls.ca_crl and tls.mode == tls.SIMPLE:
        yield Finding((*path, "caCrl"), "does nothing with mode SIMPLE")


def _check_certificates(tls: Any, path: Path) -> Findings:
    if tls.mode != tls.SIMPLE and not tls.ca_certificates:
        yield Finding((*path, "caCertificates"), "is required, unless there is credentialName")
    listed = [((*path, "tlsCertificates", number), one) for number, one in enumerate(tls.tls_certificates)]
    for place, one in listed or [(path, tls)]:
        for field, name in (("server_certificate", "serverCertificate"), ("private_key", "privateKey")):
            if not getattr(one, field):
                yield Finding((*place, name), "is required, unless there is credentialName")


def _check_ciphers(tls: Any, path: Path) -> Findings:
    if tls.min_protocol_version in {tls.TLSV1_0, tls.TLSV1_1} and not tls.cipher_suites:
        yield warning((*path, "minProtocolVersion"), "needs cipherSuites: the default ones are for TLS 1.2")
    seen = set()
    for number, cipher in enumerate(tls.cipher_suites):
        is_name = cipher[:1].isalnum()  # others add to or take from a list
        if cipher in seen:
            yield warning((*path, "cipherSuites", number), f"{quoted(cipher)} stands twice")
        elif is_name and cipher not in _CIPHERS:
            yield warning((*path, "cipherSuites", number), f"{quoted(cipher)} is not known and does nothing")
        seen.add(cipher)
