"""Equal content has equal bytes, whichever way the fold came to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.materializer.conversion import converter_name
from consumers.materializer.conversion.endpoint import EndpointConverter
from consumers.materializer.conversion.folded_instance import PortNames, rename_ports
from consumers.materializer.fold_state import Touched
from consumers.materializer.replay import Replay
from consumers.materializer.view import NamespaceView, Occasion
from consumers.settings import ConversionSettings
from schemas.events import Datacenter, NamespaceGone, ServiceGone, ServiceKey, ServiceState
from tests.unit.conversions import PUBLIC, TOPIC, UNGUARDED, Log, make

KEY = ServiceKey("DEFAULT_GROUP", "orders")


class Published:
    """A log whose changes are published one by one; `proven` says whether a fold of the log gives each digest."""

    def __init__(self, settings: ConversionSettings | None = None) -> None:
        self.log = Log(settings)
        self.view = NamespaceView(PUBLIC, self.log.settings)
        self.proven: list[bool] = []

    def publish(self) -> None:
        """Publishes what changed."""
        changes = self.log.fold.state.changes[PUBLIC]
        dirty, changes.dirty = changes.dirty, Touched()
        last = len(self.log.events) - 1
        name = converter_name(self.log.settings, UNGUARDED)
        occasion = Occasion("test", recover_from={TOPIC: 0}, folded_to={TOPIC: last}, converter=name)
        update = self.view.update(self.log.fold.state, dirty, occasion)
        if update is None:
            return
        self.view.published(update)
        replay = Replay(self.log.settings, UNGUARDED, update.manifest)
        for offset, event in enumerate(self.log.events):
            replay.apply(TOPIC, offset, event)
        self.proven.append(replay.snapshot()[0] == update.manifest.digest)


@pytest.mark.parametrize(
    "metadata",
    [
        {"protocol": "grpc", "app": "x", "app-id": "y"},
        {"protocol": "tcp", "version": "1", "version.sha": "2"},
        {"protocol": "grpc", "gRPC_port": "9090"},
    ],
)
def test_a_fold_of_the_log_gives_the_bytes_that_were_published(metadata: dict[str, str]) -> None:
    """Also where one label's or port's name begins with another's, which protobuf sorts in its own way."""
    published, one = Published(), make(metadata=metadata)
    published.log.keyframe({KEY: [one]})
    published.publish()
    for instances in ((one._replace(healthy=False), make("10.0.0.2", metadata=metadata)), (one,)):
        published.log.add(ServiceState(key=KEY, instances=instances, protect_threshold=0.0))
        published.publish()
    assert published.proven == [True, True, True]


@given(
    labels=st.dictionaries(st.text("ab-", min_size=1, max_size=4), st.text("ab", max_size=3), max_size=6),
    names=st.lists(st.sampled_from(("http", "tcp", "grpc", "grpc-web")), min_size=2, max_size=2),
)
def test_ports_that_are_renamed_are_written_as_if_they_had_that_name_from_the_beginning(
    labels: dict[str, str], names: list[str]
) -> None:
    """Labels and ports in one order, whoever writes them."""
    converter = EndpointConverter(ConversionSettings(), Datacenter("dc1"))
    instance = make(metadata=labels | {"gRPC_port": "9090"})
    first, second = (PortNames(name, (("grpc", f"{name}-9090"),)) for name in names)
    assert rename_ports(converter.convert(instance, first), second) == converter.convert(instance, second).endpoint


def test_an_endpoint_that_is_stated_twice_is_the_same_one_at_every_look() -> None:
    """Which of the two it is does not depend on what its ports were called last."""
    log = Log()
    twice = [
        make("10.0.0.1", 80, cluster="c1", metadata={"gRPC_port": "9090"}),
        make("10.0.0.1", 80, metadata={"protocol": "grpc"}),
    ]
    log.keyframe({KEY: twice})
    assert len({log.snapshot().manifest.digest for _ in range(4)}) == 1


def test_a_namespace_that_goes_takes_the_entries_of_departed_services_with_it() -> None:
    """Services go first as a rule, and their entries stay for a while; the namespace's end ends that."""
    published = Published(ConversionSettings())
    published.log.keyframe({KEY: [make()]})
    published.publish()
    published.log.add(ServiceGone(key=KEY))
    published.publish()
    assert len(published.view.versions) == 1
    published.log.add(NamespaceGone())
    published.publish()
    assert not published.view.versions
    assert all(published.proven)


def test_labels_of_rules_are_labels_and_nothing_else() -> None:
    """Metadata of the same names would name a protocol, a port and a locality."""
    labels = {"secure": "true", "region": "eu", "protocol": "tcp", "service-port": "1", "cluster": "blue"}
    settings = ConversionSettings.model_validate({"rules": [{"set": {"labels": labels}}]})
    log = Log(settings)
    log.keyframe({KEY: [make()]})
    (entry,) = log.entries().values()
    assert [(port.number, port.protocol) for port in entry.ports] == [(8080, "HTTP")]
    (endpoint,) = entry.endpoints
    assert endpoint.locality == ""
    assert dict(endpoint.labels) == labels
