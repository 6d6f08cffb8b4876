"""Settings: one YAML file and `SHIPLOG_` environment variables (environment wins), checked at start.

`kafka.servers` in the file is `SHIPLOG_KAFKA__SERVERS` in the environment. Secrets are read from the
environment or from files, and never printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from runtime.errors import SettingsError
from runtime.kafka_options import OptionValue, Role, refuse, refuse_servers, with_fields


class Section(BaseModel):
    """A section of the settings: unknown names are errors, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class KafkaSettings(Section):
    """Where Kafka is, and how to be let in."""

    servers: str = Field(default="127.0.0.1:9092", description="bootstrap servers, comma separated")
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)
    ] = "PLAINTEXT"
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
    options: Mapping[str, OptionValue] = Field(
        default={}, description="more settings of librdkafka, under its names, for all clients"
    )
    options_files: Mapping[str, Path] = Field(
        default={}, description="settings of librdkafka that are secret, and the files that hold them"
    )
    producer_options: Mapping[str, OptionValue] = {}
    consumer_options: Mapping[str, OptionValue] = {}
    admin_options: Mapping[str, OptionValue] = {}

    @model_validator(mode="before")
    @classmethod
    def _options_that_are_fields(cls, section: Any) -> Any:
        return with_fields(section) if isinstance(section, dict) else section

    @field_validator("options", "options_files", "producer_options", "consumer_options", "admin_options")
    @classmethod
    def _no_option_that_must_not_change(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse(options)
        return options

    @field_validator("producer_options", "consumer_options", "admin_options")
    @classmethod
    def _one_kafka(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        refuse_servers(options)
        return options

    def options_of(self, role: Role) -> dict[str, str]:
        """The options of a client, under librdkafka's names: those of all, then those of its role.

        Raises:
            SettingsError: a file can't be read.
        """
        by_role = {
            "producer": self.producer_options,
            "consumer": self.consumer_options,
            "admin": self.admin_options,
        }
        return {
            **{name: value.get_secret_value() for name, value in self.options.items()},
            **{
                name: read_secret(path, f"kafka.options_files: {name}")
                for name, path in self.options_files.items()
            },
            **{name: value.get_secret_value() for name, value in by_role[role].items()},
        }

    def client_config(self, role: Role, client_id: str, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Everything that a client is set up with, under librdkafka's names.

        `own` is what the client needs for what it does; options come last, for those among these that must not
        change are refused.

        Raises:
            SettingsError: a file is missing or can't be read.
        """
        password = self.sasl_password.get_secret_value() if self.sasl_password else None
        if self.sasl_password_file:
            password = read_secret(self.sasl_password_file, "kafka.sasl_password_file")
        files = {"ca_file": self.ca_file, "certificate_file": self.certificate_file, "key_file": self.key_file}
        for setting, path in files.items():
            if path is not None and not path.exists():
                raise SettingsError(f"kafka.{setting}: there is no {path}")
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
        given = {name: value for name, value in config.items() if value is not None}
        return given | dict(own or {}) | self.options_of(role)


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
    replication_factor: int = Field(
        default=3, ge=1, le=15, description="copies of every record; with 1 a broker's disk is the only one"
    )
    min_insync_replicas: int = Field(
        default=2, ge=1, le=15, description="copies that a record must have before it counts as written"
    )
    event_retention_days: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _no_more_copies_than_there_are(self) -> TopicsSettings:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(
                f"min_insync_replicas ({self.min_insync_replicas}) is more than replication_factor "
                f"({self.replication_factor}): nothing could be written; set topics.min_insync_replicas to "
                f"{max(1, self.replication_factor - 1)}"
            )
        return self


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
        env_prefix="SHIPLOG_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
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
            f"  {'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()
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
