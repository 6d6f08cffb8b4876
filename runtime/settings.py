"""Settings: one YAML file and `SHIPLOG_` environment variables (environment wins), checked at start.

`kafka.servers` in the file is `SHIPLOG_KAFKA__SERVERS` in the environment. Secrets are read from the
environment or from files, and never printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Section(BaseModel):
    """A section of the settings: unknown names are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    """Where Kafka is, and how to be let in."""

    servers: str = Field(default="127.0.0.1:9092", description="bootstrap servers, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    log_level: int = Field(
        default=4, ge=0, le=7, description="of librdkafka's own log on stderr: 4 tells of each failed attempt"
    )

    def client_config(self, client_id: str) -> dict[str, Any]:
        """The settings as librdkafka names them."""
        password = self.sasl_password.get_secret_value() if self.sasl_password else None
        if self.sasl_password_file:
            password = read_secret(self.sasl_password_file, "kafka.sasl_password_file")
        config = {
            "bootstrap.servers": self.servers,
            "client.id": client_id,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": password,
            "ssl.ca.location": self.ca_file and str(self.ca_file),
            "ssl.certificate.location": self.certificate_file and str(self.certificate_file),
            "ssl.key.location": self.key_file and str(self.key_file),
            # A broker that comes back is found within a second, not within ten.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "log_level": self.log_level,
        }
        return {name: value for name, value in config.items() if value is not None}


class SchemaRegistrySettings(Section):
    """Confluent's schema registry; without a URL values carry Avro's single-object header."""

    url: SecretStr | None = None


class LogSettings(Section):
    """What the process says, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class TopicsSettings(Section):
    """How topics are made and checked."""

    partitions: int = Field(default=8, ge=1, le=1000, description="of every topic that carries a namespace")
    replication_factor: int = Field(default=1, ge=1, le=15)
    event_retention_days: int = Field(default=30, ge=1)


class AdminSettings(Section):
    """Where a process answers `/metrics`, `/healthz`, `/readyz` and `/debug`."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)


def read_secret(path: Path, setting: str) -> str:
    """The secret in a file, without its last line break.

    Raises:
        SettingsError: the file can't be read.
    """
    try:
        return path.read_text().rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{setting}: cannot read {path}: {error.strerror}") from error


class ShiplogSettings(BaseSettings):
    """The base of the whole settings tree: the environment over the file over the defaults."""

    model_config = SettingsConfigDict(
        env_prefix="SHIPLOG_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env files
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - secrets name their files
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file, which comes in as the constructor's arguments."""
        return (env_settings, init_settings)


S = TypeVar("S", bound=ShiplogSettings)


def load_settings(model: type[S], path: Path | None) -> S:
    """The settings of the file (if any) under those of the environment.

    Raises:
        SettingsError: naming every setting at fault, with what is wrong.
    """
    try:
        return model(**_read_yaml(path))
    except ValidationError as error:
        faults = "\n".join(
            f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()
        )
        where = f" in {path} or SHIPLOG_ variables" if path else " in SHIPLOG_ variables"
        raise SettingsError(f"settings{where} can't be used:\n{faults}") from error


def _read_yaml(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"the settings file {path} is not YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"the settings file {path} must hold sections, not a {type(content).__name__}")
    return content
