"""What of librdkafka's settings is passed through, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from runtime.errors import SettingsError
from runtime.kafka_clients import check_options, make_admin, make_consumer, make_producer
from runtime.kafka_options import REFUSED
from runtime.settings import KafkaSettings, TopicsSettings
from shiplog.settings import read_settings

ROOT = Path(__file__).parents[2]
ROLES = ("producer", "consumer", "admin")


def kafka(**section: object) -> KafkaSettings:
    """The section, as it would stand in a file; nobody listens at these servers."""
    return KafkaSettings.model_validate({"servers": "127.0.0.1:1", "log_level": 0} | section)


def test_options_reach_every_client_and_those_of_a_role_only_theirs() -> None:
    """Text, numbers and truth values; an option of the role goes before one of all."""
    settings = kafka(
        options={"socket.keepalive.enable": True, "client.rack": "a", "metadata.max.age.ms": 60000},
        consumer_options={"client.rack": "b"},
        producer_options={"linger.ms": 0.5},
    )
    for role in ROLES:
        config = settings.client_config(role, "x")
        assert (config["socket.keepalive.enable"], config["metadata.max.age.ms"]) == ("true", "60000")
        assert config["client.rack"] == ("b" if role == "consumer" else "a")
        assert ("linger.ms" in config) is (role == "producer")


def test_an_option_goes_before_what_shiplog_chose() -> None:
    """Compression is a choice and not a need."""
    settings = kafka(producer_options={"compression.type": "zstd"})
    assert settings.client_config("producer", "x", {"compression.type": "lz4"})["compression.type"] == "zstd"


def test_librdkafka_has_what_was_set(capfd: pytest.CaptureFixture[str]) -> None:
    """As it says itself, in the log that one of the options asks for."""
    settings = kafka(
        log_level=7,
        options={"debug": "conf", "socket.receive.buffer.bytes": 65536},
        producer_options={"compression.type": "zstd"},
    )
    make_producer(settings, "x", {"compression.type": "lz4"})
    said = capfd.readouterr().err
    assert "compression.codec = zstd" in said
    assert "socket.receive.buffer.bytes = 65536" in said
    make_consumer(settings, "x", {"group.id": "x"})
    assert "compression.codec" not in capfd.readouterr().err


def test_an_option_that_is_a_setting_of_its_own_may_stand_at_either_place() -> None:
    """As it is pasted from another client's configuration, and also in librdkafka's own spelling."""
    settings = kafka(
        options={
            "security.protocol": "sasl_ssl",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": "me",
            "sasl.password": "hunter2",
        }
    )
    assert settings.security_protocol == "SASL_SSL"
    config = settings.client_config("admin", "x")
    assert (config["sasl.mechanism"], config["sasl.username"], config["sasl.password"]) == (
        "SCRAM-SHA-512",
        "me",
        "hunter2",
    )
    with pytest.raises(ValidationError, match=r"sasl\.mechanism stands in kafka\.options and is kafka\.sasl_"):
        kafka(options={"sasl.mechanism": "PLAIN"}, sasl_mechanism="PLAIN")


@pytest.mark.parametrize("place", ["options", "producer_options", "consumer_options", "admin_options"])
@pytest.mark.parametrize("name", [*REFUSED, "error_cb", "oauth_cb", "test.mock.num.brokers"])
def test_what_correctness_rests_on_is_refused_by_name(name: str, place: str) -> None:
    """Wherever it stands, with the reason; a value that is right today is refused, too."""
    with pytest.raises(ValidationError, match=rf"{re.escape(name)} can't be set: \w+"):
        kafka(**{place: {name: "1"}})


def test_whatever_a_client_of_ours_needs_is_refused() -> None:
    """Each setting that is given to a client in the code is refused, or stands here as one that may be chosen."""
    chosen = {
        "compression.type",
        "fetch.wait.max.ms",
        "heartbeat.interval.ms",
        "linger.ms",
        "metadata.max.age.ms",
        "queued.max.messages.kbytes",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        "session.timeout.ms",
        "socket.timeout.ms",
        "topic.metadata.refresh.interval.ms",
    }
    folders = ("runtime", "producers", "consumers", "mcp_gateway", "shiplog")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    given = {
        name
        for path in sources
        if path.name not in {"kafka_options.py", "known_types.py"} and "local_stack" not in path.parts
        for name in re.findall(r'^\s+"([a-z]+(?:\.[a-z]+)+)": (?!")', path.read_text(), re.MULTILINE)
    }
    named = {"bootstrap.servers", "security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"}
    named |= {"ssl.ca.location", "ssl.certificate.location", "ssl.key.location"}
    assert "enable.idempotence" in given
    assert given - named - chosen <= set(REFUSED), given - named - chosen - set(REFUSED)


def test_an_unknown_name_or_value_is_refused_at_start_with_librdkafkas_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All of them at once, as a fault of the settings; none of them with its value if that may be a secret."""
    file = tmp_path / "shiplog.yaml"
    file.write_text(
        "kafka:\n"
        "  options: {max.poll.intervall.ms: 5, socket.timeout.ms: 1, ssl.key.passwort: hunter2}\n"
        "  producer_options: {compression.type: brotli}\n"
    )
    with pytest.raises(SettingsError) as failed:
        read_settings(file)
    text = str(failed.value)
    assert 'No such configuration property: "max.poll.intervall.ms"' in text
    assert "socket.timeout.ms: Configuration property" in text
    assert "outside allowed range" in text
    assert "ssl.key.passwort" in text
    assert 'Invalid value "brotli"' in text
    assert "hunter2" not in text
    monkeypatch.setenv("SHIPLOG_KAFKA__OPTIONS", '{"socket.timeout.ms": 20000}')
    file.write_text("kafka: {options: {client.rack: a}}")
    assert read_settings(file).kafka.options_of("admin") == {"socket.timeout.ms": "20000", "client.rack": "a"}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"security_protocol": "SASL_SSL"}, r"GSSAPI.*kafka\.sasl_mechanism is not set"),
        ({"options": {"session.timeout.ms": 900000}}, r"max\.poll\.interval\.ms"),
        (
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER",
                "options": {"sasl.oauthbearer.method": "oidc"},
            },
            r"token\.endpoint\.url",
        ),
        (
            {"security_protocol": "SSL", "ca_file": "/nowhere/ca.pem"},
            r"kafka\.ca_file: there is no /nowhere/ca\.pem",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_a_fault(section: dict[str, object], words: str) -> None:
    """Told by librdkafka when a client is made; no stack trace."""
    settings = kafka(**section)
    check_options(settings)
    with pytest.raises(SettingsError, match=words):
        make_consumer(settings, "x", {"group.id": "x"})


def test_a_request_never_outlasts_its_transaction() -> None:
    """librdkafka refuses such a producer; a longer socket.timeout.ms is meant for the others."""
    settings = kafka(options={"socket.timeout.ms": 60000})
    make_producer(settings, "x", {"transactional.id": "x", "transaction.timeout.ms": 10_000})


def test_secrets_come_from_files_and_are_never_printed(tmp_path: Path) -> None:
    """Of any option; the file is read whenever a client is made. Values in the settings are hidden as well."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    settings = kafka(
        options={"sasl.oauthbearer.client.id": "me", "ssl.key.password": "hunter3"},
        options_files={"sasl.oauthbearer.client.secret": secret, "sasl.password": secret},
    )
    assert settings.options_of("producer")["sasl.oauthbearer.client.secret"] == "hunter2"
    assert settings.client_config("admin", "x")["sasl.password"] == "hunter2"
    assert "hunter" not in f"{settings!r}{settings}{settings.model_dump()}"
    secret.unlink()
    with pytest.raises(SettingsError, match=r"kafka\.sasl_password_file: cannot read"):
        make_admin(settings, "x")
    with pytest.raises(SettingsError, match=r"kafka\.options_files: sasl\.oauthbearer\.client\.secret: cannot"):
        settings.options_of("admin")


@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_an_option_is_one_value(value: object) -> None:
    """No list, no map, not nothing; the value is not repeated."""
    with pytest.raises(ValidationError, match=r"client\.rack") as failed:
        kafka(options={"client.rack": value})
    assert "input_value" not in str(failed.value)


@pytest.mark.parametrize("name", ["bootstrap.servers", "metadata.broker.list"])
def test_all_clients_talk_to_one_kafka(name: str) -> None:
    """An option of one role can't send it to another."""
    assert kafka().servers == "127.0.0.1:1"
    with pytest.raises(ValidationError, match=r"set kafka\.servers"):
        kafka(producer_options={name: "k1:9092"})
    assert KafkaSettings.model_validate({"options": {name: "k1:9092"}}).servers == "k1:9092"


def test_more_copies_are_not_waited_for_than_there_are() -> None:
    """Nothing could be written; the fault names the setting and a value that can be."""
    assert (TopicsSettings().replication_factor, TopicsSettings().min_insync_replicas) == (3, 2)
    with pytest.raises(ValidationError, match=r"set topics\.min_insync_replicas to 1"):
        TopicsSettings(replication_factor=1)
