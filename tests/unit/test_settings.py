"""Settings as commands read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_gateway.settings import GatewaySettings
from shiplog.settings import read_command_settings, read_settings

if TYPE_CHECKING:
    import pytest


def test_commands_keep_librdkafka_quiet_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command's own line says what is wrong; processes keep the log, and whoever sets its level has it."""
    monkeypatch.delenv("SHIPLOG_KAFKA__LOG_LEVEL", raising=False)
    assert read_settings(None).kafka.client_config("admin", "x")["log_level"] == 4
    assert read_command_settings(None).kafka.client_config("admin", "x")["log_level"] == 2
    monkeypatch.setenv("SHIPLOG_KAFKA__LOG_LEVEL", "4")
    assert read_command_settings(None).kafka.client_config("admin", "x")["log_level"] == 4


def test_a_gateway_keeps_no_cache_unless_told_and_waits_for_ten_seconds() -> None:
    """The defaults of what a start without Kafka, or with a namespace at fault, depends on."""
    settings = GatewaySettings()
    assert settings.cache_dir is None
    assert settings.cache_interval_s == 10.0
    assert settings.cache_max_bytes == 4 * 1024**3
    assert settings.start_patience_s == 10.0
    assert settings.serve_without == ()
    assert settings.stale_after_s == 30.0
    assert settings.reread_max_s == 300.0
