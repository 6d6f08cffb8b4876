"""The settings of all processes: one tree, one file, one set of environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consumers.settings import ConversionSettings, MaterializerSettings
from mcp_gateway.settings import GatewaySettings
from producers.settings import ListenerSettings, NacosSettings
from runtime.kafka_clients import check_options
from runtime.settings import (
    KafkaSettings,
    LogSettings,
    SchemaRegistrySettings,
    ShiplogSettings,
    TopicsSettings,
    load_settings,
)
from schemas.schema_registry import HttpSchemaRegistry
from shiplog.waiting import tell_where_kafka_is_awaited

if TYPE_CHECKING:
    from pathlib import Path


class Settings(ShiplogSettings):
    """Everything that can be set; each process reads the sections that concern it."""

    kafka: KafkaSettings = KafkaSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    topics: TopicsSettings = TopicsSettings()
    log: LogSettings = LogSettings()
    nacos: NacosSettings = NacosSettings()
    listener: ListenerSettings = ListenerSettings()
    materializer: MaterializerSettings = MaterializerSettings()
    conversion: ConversionSettings = ConversionSettings()
    gateway: GatewaySettings = GatewaySettings()

    def registry(self) -> HttpSchemaRegistry | None:
        """The schema registry, where one is set."""
        url = self.schema_registry.url
        return None if url is None else HttpSchemaRegistry(url.get_secret_value())


def read_command_settings(path: Path | None) -> Settings:
    """As `read_settings`, for a command that says itself, and once, what is wrong with Kafka.

    librdkafka would tell of each attempt to connect, forty a second; who sets `kafka.log_level` hears it. That the
    command waits for Kafka is told after 2 s, on stderr.
    """
    settings = read_settings(path)
    if "log_level" not in settings.kafka.model_fields_set:
        settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"log_level": 2})})
    tell_where_kafka_is_awaited(settings.kafka)
    return settings


def read_settings(path: Path | None) -> Settings:
    """The settings of a file and the environment; raises SettingsError that names every fault."""
    settings = load_settings(Settings, path)
    check_options(settings.kafka)
    return settings
