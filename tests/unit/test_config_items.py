"""Config items as resources: what is taken, what is refused and where, and who has a name."""

from __future__ import annotations

import contextlib
import time

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.materializer.conversion import FIRST_REVISION, SERVICE_ENTRIES
from consumers.materializer.conversion.config_item import BadItemError, convert_item
from consumers.materializer.conversion.kinds import KINDS
from consumers.materializer.conversion.safe_yaml import MAX_BYTES, MAX_DEPTH
from consumers.materializer.fold import Outcome
from consumers.materializer.recovery import recovery_offset
from consumers.settings import ConversionSettings
from schemas.events import ConfigGone, ConfigKey, ConfigState, ServiceKey, SyncCompleted, SyncStarted
from tests.unit.conversions import PUBLIC, TOPIC, Log, make

SETTINGS = ConversionSettings()
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: orders
  labels: {team: shop}
  annotations: {why: "a test"}
spec:
  host: orders.example
  trafficPolicy:
    connectionPool:
      tcp: {connectTimeout: 100ms, maxConnections: 7}
"""
SERVICE = """\
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders.example]
  http:
    - timeout: 1m30s
      retries: {attempts: 3, perTryTimeout: 2s}
      route: [{destination: {host: orders, port: {number: 80}}, weight: 100}]
"""
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join([f'*{former}'] * 9)}]\n" for former, key in zip("abcdefg", "bcdefgh", strict=True)
)
"""A few lines that stand for nine to the eighth values."""
ODD_LINES = ("- ", "  &a", "*a", "? x", "---", "\t", "!!binary x")


def test_documents_become_resources() -> None:
    """Several in an item; names, namespaces, labels and annotations are kept; durations as Go writes them."""
    rule, service = convert_item(SETTINGS, PUBLIC, f"{RULE}---\n{SERVICE}---\n")
    assert (rule.collection, rule.name) == ("istio/networking/v1alpha3/destinationrules", "public/orders")
    assert (rule.labels, rule.annotations) == ({"team": "shop"}, {"why": "a test"})
    assert (service.collection, service.name) == ("istio/networking/v1alpha3/virtualservices", "shop/orders")
    assert rule.type_url == "type.googleapis.com/istio.networking.v1alpha3.DestinationRule"
    body = MessageToDict(KINDS["DestinationRule"].message.FromString(rule.body))
    assert body["trafficPolicy"]["connectionPool"]["tcp"] == {"connectTimeout": "0.100s", "maxConnections": 7}
    (route,) = MessageToDict(KINDS["VirtualService"].message.FromString(service.body))["http"]
    assert (route["timeout"], route["retries"]["perTryTimeout"]) == ("90s", "2s")


@pytest.mark.parametrize(
    ("text", "line", "field", "detail"),
    [
        (RULE.replace("maxConnections: 7", "maxConnections: seven"), 11, "connectionPool.tcp", "seven"),
        (RULE.replace("host:", "hosts:"), 8, "spec.hosts", "DestinationRule has no such field"),
        (RULE.replace("100ms", "soon"), 11, "connectTimeout", "soon is no duration"),
        (RULE.replace("name: orders", "name: Orders"), 4, "metadata.name", "no name as Kubernetes has them"),
        (RULE.replace("kind: DestinationRule", "kind: Deployment"), 2, "kind", "Deployment is none of"),
        (RULE.replace("istio.io/v1", "istio.io/v9"), 1, "apiVersion", "v9 is none of"),
        (RULE.replace("team: shop", "team: 7"), 5, "metadata.labels.team", "must be a text"),
        (RULE.replace("team: shop", "team: a b"), 5, "metadata.labels.team", "can't be a label"),
        (RULE + "extra: 1\n", 12, "extra", "not a field of a resource"),
        (f"{RULE}---\n{RULE}", 16, "metadata.name", "in an earlier document"),
        (SERVICE.replace("http:", "http: []\n  http:"), 7, "spec.http", "stands twice"),
        (SERVICE.replace("[orders.example]", "!!python/name:os.system ''"), 5, "spec.hosts", "tag"),
        (SERVICE.replace("[orders.example]", "&a [*a]"), 5, "", "nested deeper"),
        (SERVICE.replace("[orders.example]", "orders.example"), 5, "hosts", ""),
        (SERVICE.replace("  http:", "  <<: {gateways: [a]}\n  http:"), 6, "spec", "merge keys"),
        ("{", 1, "", "flow"),
        ("just words", 1, "", "must be a map"),
        ("a: [" * 1000, 1, "", f"nested deeper than {MAX_DEPTH}"),
        ("x" * (MAX_BYTES + 1), 1, "", "larger than"),
        (LAUGHS, 1, "", "more than"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line_and_field(text: str, line: int, field: str, detail: str) -> None:
    """An operator finds it without searching."""
    with pytest.raises(BadItemError) as raised:
        convert_item(SETTINGS, PUBLIC, text)
    assert raised.value.line == line or (not field and raised.value.line)
    assert field in raised.value.field
    assert detail in str(raised.value)


FILTER = """\
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: f}
spec:
  configPatches:
    - applyTo: CLUSTER
      patch:
        value: {limit: NUMBER}
"""
MIRROR = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, generation: 1}
spec:
  http:
    - mirrorPercentage: {value: NUMBER}
      timeout: DURATION
"""


@pytest.mark.parametrize(
    "duration",
    ["9" * 29 + "s", "99999999999999999999s", "9999999999999999h", "-9999999999999999h", "9" * 1_000_000,
     "9" * 5000 + "s", "1s" * 600, "0." + "9" * 5000 + "s", "1e400s", "[1s]", "{a: 1s}", "true", "315576000001s"],
)  # fmt: skip
def test_a_duration_out_of_range_is_refused_with_its_line(duration: str) -> None:
    """Seen to end the materializer for good: any duration of more than 28 digits, in any field of any kind."""
    for text in (
        MIRROR.replace("NUMBER", "1").replace("DURATION", duration),
        RULE.replace("100ms", duration),
    ):
        with pytest.raises(BadItemError) as raised:
            convert_item(SETTINGS, PUBLIC, text)
        assert ("timeout" in raised.value.field) or ("connectTimeout" in raised.value.field)
        assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        ("9" * 310, "too large a number"), ("-" + "9" * 310, "too large a number"),
        ("9" * 5000, "a number of 5000 digits"), ("9" * 401, "a number of 401 digits"),
        ("1.0e+400", "too large a number"), ("-1.0e+400", "too large a number"),
        ("9" * 400 + ".0", "too large a number"),
    ],
)  # fmt: skip
def test_a_number_that_no_double_can_hold_is_refused_with_its_line(number: str, detail: str) -> None:
    """Seen to end the materializer for good: in a double, and in a Struct."""
    mirror = MIRROR.replace("DURATION", "1s")
    for text in (mirror.replace("NUMBER", number), FILTER.replace("NUMBER", number)):
        with pytest.raises(BadItemError, match=detail) as raised:
            convert_item(SETTINGS, PUBLIC, text)
        assert number in text.splitlines()[raised.value.line - 1]


def test_a_number_of_thousands_of_digits_is_refused_where_nobody_reads_it_too() -> None:
    """Seen to end the materializer for good: Python reads no number of more than 4,300 digits."""
    text = (
        MIRROR.replace("NUMBER", "1")
        .replace("DURATION", "1s")
        .replace("generation: 1", "generation: " + "1" * 5000)
    )
    with pytest.raises(BadItemError, match=r"line 3, metadata.generation: a number of 5000 digits"):
        convert_item(SETTINGS, PUBLIC, text)


@pytest.mark.parametrize("number", ["NaN", ".nan", "Infinity", "-Infinity", "inf", "nan", ".inf"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    """Istio's own schemas take numbers only; the first revision of the conversion took some of these."""
    with pytest.raises(BadItemError, match=r"mirrorPercentage"):
        convert_item(SETTINGS, PUBLIC, MIRROR.replace("NUMBER", number).replace("DURATION", "1s"))


def test_what_the_first_revision_took_is_still_converted_as_it_did() -> None:
    """For the audits of what it published."""
    for number in ("NaN", "Infinity"):
        (made,) = convert_item(
            SETTINGS, PUBLIC, MIRROR.replace("NUMBER", number).replace("DURATION", "1s"), FIRST_REVISION
        )
        assert MessageToDict(KINDS["VirtualService"].message.FromString(made.body))["http"][0][
            "mirrorPercentage"
        ] == {"value": number}
    (made,) = convert_item(SETTINGS, PUBLIC, FILTER.replace("NUMBER", "1.0e+400"), FIRST_REVISION)
    assert made.body


@pytest.mark.parametrize(
    "text",
    [
        "a: &a 'X'\n" + "b: [" + "*a, " * 5000 + "]",
        "a: " + "{b: " * 60 + "1" + "}" * 60,
        "'" + "k" * 5000 + "': 1",
        "- 1\n" * 250_000,
        "--- {}\n" * 100_000,
    ],
    ids=["aliases", "deep", "key", "wide", "documents"],
)
def test_a_small_text_that_stands_for_a_large_value_is_refused_soon(text: str) -> None:
    """By what it amounts to, before that is built."""
    text = text.replace("X", "x" * 500_000)
    began = time.process_time()
    with pytest.raises(BadItemError):
        convert_item(SETTINGS, PUBLIC, text)
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
    "number", ["9" * 900_000 + "._", "9" * 900_000 + "_", "9" * 400_000 + ":30", "0." + "9" * 900_000 + "x"]
)
def test_no_text_takes_long(number: str) -> None:
    """A scalar of a megabyte that is nearly a number: its patterns look at each character once."""
    began = time.process_time()
    with pytest.raises(BadItemError):
        convert_item(SETTINGS, PUBLIC, MIRROR.replace("NUMBER", number).replace("DURATION", "1s"))
    assert time.process_time() - began < 20


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028", "\u2029"])
def test_directives_without_end_are_refused_soon(end: str) -> None:
    """libyaml compares each with all before it: a text of 1 MiB stopped every thread for a minute."""
    text = f"%TAG !aaa! t{end}" * (1_000_000 // (12 + len(end.encode()))) + f"--- {{}}{end}"
    began = time.process_time()
    with pytest.raises(BadItemError, match="directives"):
        convert_item(SETTINGS, PUBLIC, text)
    assert time.process_time() - began < 2


def test_half_a_surrogate_pair_is_no_text() -> None:
    """Neither as it is nor written as an escape; the line is named."""
    for text in ("\ud800", 'a: "\\ud800"', "# fine\na: \udfff"):
        with pytest.raises(BadItemError) as raised:
            convert_item(SETTINGS, PUBLIC, text)
        assert raised.value.line == text.count("\n") + 1


lines = st.sampled_from([*RULE.splitlines(), *SERVICE.splitlines(), *ODD_LINES])


@given(st.one_of(st.text(max_size=300), st.lists(lines, max_size=30).map("\n".join)))
@example("\x00")
@example("%YAML 9.9\n---\na")
@example("a: 2001-01-01\nb: 0o7\nc: 1:30\nd: .inf")
def test_whatever_is_written_is_taken_or_refused(text: str) -> None:
    """Nothing else comes out of any text."""
    with contextlib.suppress(BadItemError):
        convert_item(SETTINGS, PUBLIC, text)


def state(text: str, data_id: str = "rules", group: str = "ISTIO") -> ConfigState:
    """An item with this text."""
    return ConfigState(key=ConfigKey(group, data_id), content=text, content_type="yaml", md5="")


def stated(*items: ConfigState) -> Log:
    """A log whose first keyframe states these."""
    log = Log()
    log.add(SyncStarted(reason="test"))
    for item in items:
        log.add(item)
    log.add(SyncCompleted(services=0, config_items=len(items)))
    return log


def names(log: Log) -> list[tuple[str, str]]:
    """The resources of the snapshot."""
    return sorted(name for name, record in log.snapshot().records.items() if record is not None)


def test_an_item_is_part_of_the_snapshot_until_it_is_deleted() -> None:
    """A version of its own for each; another group's items are none of ours."""
    log = stated(state(RULE), state(RULE, group="OTHER", data_id="x"))
    assert names(log) == [("istio/networking/v1alpha3/destinationrules", "public/orders")]
    version = dict(log.fold.state.changes[PUBLIC].version)
    log.add(state(RULE))
    assert log.fold.state.changes[PUBLIC].version == version, "the same text makes no version"
    log.add(ConfigGone(key=ConfigKey("ISTIO", "rules")))
    assert names(log) == []


def test_the_last_good_version_of_an_item_stands() -> None:
    """While what replaced it is wrong; recovery begins before that, for the wrong text does not tell it."""
    log = stated(state(RULE))
    good = names(log)
    log.add(state("kind: nonsense"))
    assert log.outcome is Outcome.BAD_ITEM
    assert names(log) == good
    log.add(SyncStarted(reason="test"))
    log.add(state("kind: nonsense"))
    log.add(SyncCompleted(services=0, config_items=1))
    assert log.outcome is Outcome.APPLIED, "told of once"
    assert recovery_offset(log.fold.state, TOPIC, 99) == 0
    log.add(state(SERVICE))
    assert names(log) == [("istio/networking/v1alpha3/virtualservices", "shop/orders")]


def test_of_two_items_the_first_by_name_has_a_resource() -> None:
    """By datacenter, group and data id, whoever came first; when it goes, the other has it."""
    other = RULE.replace("orders.example", "other.example")
    log = stated(state(other, "b"), state(RULE, "a"))
    record = next(iter(log.snapshot().records.values()))
    assert record is not None
    assert b"orders.example" in record.head
    log.add(ConfigGone(key=ConfigKey("ISTIO", "a")))
    record = next(iter(log.snapshot().records.values()))
    assert record is not None
    assert b"other.example" in record.head


def test_an_item_goes_before_a_generated_service_entry_of_its_name() -> None:
    """What somebody wrote is meant; the service comes back when the item goes."""
    entry = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: svc.default-group.public}
spec: {hosts: [written.example], resolution: NONE}
""".replace("default-group", "g")
    log = Log()
    key = ServiceKey("g", "svc")
    log.keyframe({key: [make()]})
    (generated,) = log.entries().values()
    log.add(state(entry))
    (written,) = log.entries().values()
    assert (generated.hosts, written.hosts) == (["svc.g.public.nacos"], ["written.example"])
    assert names(log) == [(SERVICE_ENTRIES, "public/svc.g.public")]
    log.add(ConfigGone(key=ConfigKey("ISTIO", "rules")))
    assert log.entries() == {"public/svc.g.public": generated}
