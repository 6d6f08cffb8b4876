"""The gateway's TLS over real sockets: who may come in, and certificates that change under open streams."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from schemas.protobuf.istio_mcp.mcp_pb2 import RequestResources, Resources
from tests.harness.pilot import SERVICE_ENTRIES, wait_for
from tests.harness.pilot_server import ServedViews

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPIFFE = "spiffe://cluster.local/ns/istio-system/sa/pilot"


def issue(authority: trustme.CA, name: str) -> trustme.LeafCert:
    """A client's certificate, for a DNS name or a SPIFFE id, which trustme does not issue."""
    if not name.startswith("spiffe://"):
        return authority.issue_cert(name)
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signer = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=True)
        .sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return trustme.LeafCert(pem, certificate.public_bytes(serialization.Encoding.PEM), [])


class Server(ServedViews):
    """A gateway's server with one resource and certificates in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.renew(self.authority)
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        tls = {name: folder / f"{name}.pem" for name in ("certificate", "key")}
        super().__init__(
            {"tls": tls | {"client_ca": folder / "ca.pem"}, "allowed_identities": [f"{SPIFFE}*", "pilot.*"]}
        )

    def renew(self, authority: trustme.CA) -> None:
        """A certificate of that authority in the files, as a rotation writes it."""
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(str(self.folder / "certificate.pem"))
        issued.private_key_pem.write_to_path(str(self.folder / "key.pem"))
        later = time.time() + 10
        os.utime(self.folder / "key.pem", (later, later))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running one."""
    with Server(tmp_path) as made:
        made.change({"a/b": "1"})
        yield made


class Stream:
    """A stream of a client with this certificate, to a server that it trusts by this authority."""

    def __init__(self, server: Server, certificate: trustme.LeafCert | None, trusted: trustme.CA) -> None:
        key = chain = None
        if certificate is not None:
            key = certificate.private_key_pem.bytes()
            chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        credentials = grpc.ssl_channel_credentials(trusted.cert_pem.bytes(), key, chain)
        self._channel = grpc.secure_channel(f"localhost:{server.port}", credentials)
        call = self._channel.stream_stream(
            "/istio.mcp.v1alpha1.ResourceSource/EstablishResourceStream",
            request_serializer=RequestResources.SerializeToString,
            response_deserializer=Resources.FromString,
        )
        self._answers: list[str] = []
        self._asked = threading.Event()
        self._call = call(self._requests())

    def _requests(self) -> Iterator[RequestResources]:
        yield RequestResources(collection=SERVICE_ENTRIES)
        while True:
            self._asked.wait()
            self._asked.clear()
            yield RequestResources(collection=SERVICE_ENTRIES, response_nonce=self._answers[-1])

    def next(self) -> str:
        """The version of the next push, acknowledged."""
        push = next(self._call)
        self._answers.append(push.nonce)
        self._asked.set()
        return push.resources[0].metadata.version  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends it."""
        self._call.cancel()
        self._channel.close()


@pytest.mark.parametrize("name", [SPIFFE, "pilot.example"])
def test_a_client_with_an_allowed_identity_is_served(server: Server, name: str) -> None:
    """By a SPIFFE id or a DNS name; the operator sees who it is."""
    stream = Stream(server, issue(server.authority, name), server.authority)
    assert stream.next() == "1"
    (status,) = server.server.streams
    assert status.peer.identity == name
    assert status.peer.pilot == name
    stream.close()


def test_others_are_refused(server: Server) -> None:
    """Signed, but not allowed; not signed by our authority; no certificate at all; no TLS at all."""
    with pytest.raises(grpc.RpcError) as refused:
        Stream(server, server.authority.issue_cert("somebody.example"), server.authority).next()
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    for certificate in (trustme.CA().issue_cert("pilot.example"), None):
        with pytest.raises(grpc.RpcError) as refused:
            Stream(server, certificate, server.authority).next()
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with grpc.insecure_channel(f"localhost:{server.port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=3)


def test_a_new_certificate_is_taken_without_ending_streams(server: Server) -> None:
    """The open stream goes on; who trusts only the new authority gets in; a file that is gone changes nothing."""
    ours = issue(server.authority, SPIFFE)
    stream = Stream(server, ours, server.authority)
    assert stream.next() == "1"
    other = trustme.CA()
    server.renew(other)

    def is_served() -> bool:
        fresh = Stream(server, ours, other)
        try:
            return fresh.next() == "1"
        except grpc.RpcError:
            return False
        finally:
            fresh.close()

    wait_for(is_served, timeout_s=10, what="the new certificate")
    (server.folder / "key.pem").unlink()
    assert is_served()
    server.change({"a/b": "2"})
    assert stream.next() == "2"
    stream.close()
