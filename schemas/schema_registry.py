"""A client of Confluent's schema registry: the two calls that the wire format needs."""

from __future__ import annotations

import json
from typing import Any

import httpx

from schemas.errors import SchemaRegistryError, UnknownSchemaError

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_S = 10.0


class HttpSchemaRegistry:
    """Schemas by id and ids by schema, over HTTP, asked once each.

    Blocks its caller for at most 10 s a call. Credentials go in the URL's user part, and are never logged.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(
            base_url=url, timeout=_TIMEOUT_S, headers={"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE}
        )
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}

    def id_of(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject, registered if it is new."""
        if (subject, schema) not in self._ids:
            found = self._call("POST", f"/subjects/{subject}/versions", "id", {"schema": schema})
            self._ids[subject, schema] = int(found)
        return self._ids[subject, schema]

    def schema_of(self, schema_id: int) -> str:
        """The schema with that id, as JSON.

        Raises:
            UnknownSchemaError: the schema registry has none.
            SchemaRegistryError: it refused, or could not be reached.
        """
        if schema_id not in self._schemas:
            self._schemas[schema_id] = str(self._call("GET", f"/schemas/ids/{schema_id}", "schema"))
        return self._schemas[schema_id]

    def _call(self, method: str, path: str, wanted: str, body: dict[str, str] | None = None) -> Any:
        """The wanted field of the answer."""
        try:
            response = self._client.request(method, path, content=None if body is None else json.dumps(body))
        except httpx.HTTPError as error:
            raise SchemaRegistryError(f"schema registry, {method} {path}: {error}") from error
        if response.is_error:
            text = f"schema registry, {method} {path}: HTTP {response.status_code} {response.text[:200]}"
            if method == "GET" and response.status_code == httpx.codes.NOT_FOUND:
                raise UnknownSchemaError(text)
            raise SchemaRegistryError(text)
        try:
            return response.json()[wanted]
        except (ValueError, LookupError, TypeError) as error:
            raise SchemaRegistryError(
                f"schema registry, {method} {path}: an answer without {wanted}: {response.text[:200]}"
            ) from error
