"""Settings as commands read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
