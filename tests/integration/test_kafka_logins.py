"""Logins that only librdkafka's own settings describe, against a real broker that asks for them."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from runtime.errors import KafkaUnusableError
from runtime.kafka_clients import check_options, make_producer
from runtime.kafka_reader import PartitionReader
from runtime.kafka_topics import TopicKeeper
from runtime.settings import KafkaSettings, TopicsSettings
from schemas.topics import Cleanup, TopicSettings
from shiplog.local_stack import kafka_broker
from shiplog.local_stack.jars import bring_jars
from tests.harness.servers import JARS, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT_ID, CLIENT_SECRET = "shiplog", "s3cret/with+signs"
ONE_BROKER = TopicsSettings(partitions=1, replication_factor=1, min_insync_replicas=1)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class Issuer:
    """An OpenID provider: it hands out signed tokens for the client's secret, and tells its public key."""

    logins: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200, issuer.key_set())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                login = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                issuer.logins.append(login)
                known = login == f"{CLIENT_ID}:{CLIENT_SECRET}"
                token = {"access_token": issuer.token(), "token_type": "Bearer", "expires_in": 3600}
                self._answer(200 if known else 401, token if known else {"error": "invalid_client"})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def key_set(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        key = {
            "kty": "RSA",
            "kid": "one",
            "alg": "RS256",
            "use": "sig",
            "n": _text(numbers.n.to_bytes(256, "big")),
            "e": _text(numbers.e.to_bytes(3, "big")),
        }
        return {"keys": [key]}

    def token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "sub": CLIENT_ID, "aud": "kafka", "iat": now, "exp": now + 3600}
        head = {"alg": "RS256", "kid": "one", "typ": "JWT"}
        signed = f"{_text(json.dumps(head).encode())}.{_text(json.dumps(claims).encode())}"
        return f"{signed}.{_text(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


@dataclass(frozen=True)
class Broker:
    """A broker that asks for tokens: signed ones at one address, unsigned ones at another."""

    issuer: Issuer
    signed: str
    unsigned: str


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Without TLS, for the logins matter here."""
    folder = tmp_path_factory.mktemp("logins")
    issuer = Issuer()
    internal, controller, signed, unsigned = (free_port() for _ in range(4))
    listeners = {"INTERNAL": internal, "SIGNED": signed, "UNSIGNED": unsigned}
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items())
    module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
    validator = "org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler"
    child = kafka_broker.broker_process(
        jars=bring_jars("kafka", JARS),
        data=folder,
        log=folder / "kafka.log",
        cluster_id="4L6g3nShT-eMCtK--X86sw",
        java_options=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.url}/keys"],
        properties={
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": addresses,
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": (
                "INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SIGNED:SASL_PLAINTEXT,UNSIGNED:SASL_PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.signed.oauthbearer.sasl.jaas.config": f"{module};",
            "listener.name.signed.oauthbearer.sasl.server.callback.handler.class": validator,
            "listener.name.signed.sasl.oauthbearer.jwks.endpoint.url": f"{issuer.url}/keys",
            "listener.name.signed.sasl.oauthbearer.expected.audience": "kafka",
            "listener.name.unsigned.oauthbearer.sasl.jaas.config": f'{module} unsecuredLoginStringClaim_sub="x";',
            "log.dirs": str(folder / "records"),
            "offsets.topic.replication.factor": "1",
        },
    )
    child.start()
    child.wait_until(lambda: kafka_broker.answers(internal), timeout_s=60)
    yield Broker(issuer, f"127.0.0.1:{signed}", f"127.0.0.1:{unsigned}")
    child.kill()
    issuer.close()


def settings(servers: str, **section: Any) -> KafkaSettings:
    """As they stand in a file."""
    login = {"servers": servers, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "OAUTHBEARER"}
    found = KafkaSettings.model_validate({"log_level": 0, **login, **section})
    check_options(found)
    return found


def works(kafka: KafkaSettings, name: str) -> None:
    """A topic is made, written and read: by each kind of client."""
    keeper = TopicKeeper(kafka, ONE_BROKER)
    topic = TopicSettings(name=name, cleanup=Cleanup.DELETE)
    assert keeper.ensure([topic]) == [name]
    assert keeper.check([topic]) == []
    producer = make_producer(kafka, "test", {})
    producer.produce(name, b"value", partition=0)
    assert producer.flush(20) == 0
    with PartitionReader(kafka, "test", 0) as reader:
        assert [message.value() for message in reader.read(name)] == [b"value"]


def oidc(broker: Broker, secret: Path) -> dict[str, Any]:
    """The options of a login at the issuer, whose secret stands in a file."""
    return {
        "options": {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": CLIENT_ID,
            "sasl.oauthbearer.token.endpoint.url": f"{broker.issuer.url}/token",
        },
        "options_files": {"sasl.oauthbearer.client.secret": str(secret)},
    }


def test_a_login_with_tokens_of_an_openid_provider(broker: Broker, tmp_path: Path) -> None:
    """`sasl.oauthbearer.method: oidc`: the broker checks the signature of what the provider gave."""
    secret = tmp_path / "secret"
    secret.write_text(f"{CLIENT_SECRET}\n")
    works(settings(broker.signed, **oidc(broker, secret)), "signed")
    assert set(broker.issuer.logins) == {f"{CLIENT_ID}:{CLIENT_SECRET}"}


def test_a_login_with_unsigned_tokens(broker: Broker) -> None:
    """librdkafka's own, for trials."""
    options = {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=me"}
    works(settings(broker.unsigned, options=options), "unsigned")


def test_a_login_that_is_refused_is_told(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker takes no unsigned token where it wants a signed one; the error says more than a time-out."""
    monkeypatch.setattr("runtime.kafka_topics._TIMEOUT_S", 3.0)
    options = {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=me"}
    keeper = TopicKeeper(settings(broker.signed, options=options), ONE_BROKER)
    with pytest.raises(KafkaUnusableError, match=r"(?i)authentication"):
        keeper.ensure([TopicSettings(name="x", cleanup=Cleanup.DELETE)])
