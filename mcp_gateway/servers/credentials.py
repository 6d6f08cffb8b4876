"""TLS of the server: certificates from files, read again when they change; and who a peer is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import structlog

from mcp_gateway import metrics
from runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mcp_gateway.settings import TlsSettings

_log = structlog.get_logger()

_SPIFFE = "spiffe://"


class CertificateFiles:
    """The files behind a server's credentials; called by gRPC at each handshake, on its threads."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._seen: tuple[float, ...] = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files: streams that are open stay, new ones get what is there.

        Raises:
            SettingsError: a file can't be read.
        """
        try:
            self._seen = self._changed_at()
            first = self._read()
        except OSError as error:
            raise SettingsError(f"gateway.tls: cannot read {error.filename}: {error.strerror}") from error
        return grpc.dynamic_ssl_server_credentials(
            first, self._fetch, require_client_authentication=self._settings.client_ca is not None
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new; None keeps what there is, also while files can't be read."""
        try:
            changed_at = self._changed_at()
            if changed_at == self._seen:
                return None
            found = self._read()
        except OSError as error:
            _log.warning(
                "certificates can't be read; the former ones stay", file=error.filename, error=error.strerror
            )
            metrics.CERTIFICATES.labels("failed").inc()
            return None
        self._seen = changed_at
        _log.info("certificates read again")
        metrics.CERTIFICATES.labels("read").inc()
        return found

    def _files(self) -> list[Path]:
        settings = self._settings
        return [path for path in (settings.certificate, settings.key, settings.client_ca) if path is not None]

    def _changed_at(self) -> tuple[float, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._files())

    def _read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key, *ca = [path.read_bytes() for path in self._files()]
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca[0] if ca else None)


def identities(auth_context: Mapping[str, Sequence[bytes]]) -> list[str]:
    """What a peer's certificate says that it is, as gRPC tells it: SPIFFE ids first, then the other names."""
    found = [
        name.decode(errors="replace")
        for key in ("peer_spiffe_id", "x509_subject_alternative_name", "x509_common_name")
        for name in auth_context.get(key, ())
    ]
    return sorted(dict.fromkeys(found), key=lambda name: not name.startswith(_SPIFFE))
