"""Names that istiod accepts, from names that Nacos allows."""

import re

import pytest

from consumers.materializer.conversion.names import MAX_LABEL, MAX_NAME, is_canonical, normalise, service_name
from consumers.settings import ConversionSettings
from schemas.events import Namespace, ServiceKey

ISTIO_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*\Z")
PUBLIC = Namespace("public")
DEFAULTS = ConversionSettings()


@pytest.mark.parametrize(
    ("group", "service", "resource", "host"),
    [
        ("DEFAULT_GROUP", "svc-0", "public/svc-0.DEFAULT-GROUP.public", "svc-0.DEFAULT-GROUP.public.nacos"),
        ("X_GROUP", "svc", "public/svc.X-GROUP.public", "svc.X-GROUP.public.nacos"),
        (
            "DEFAULT_GROUP",
            "providers:com.x.Y:1.0:",
            "public/providers-com.x.Y-1.0.DEFAULT-GROUP.public",
            "providers-com.x.Y-1.0.DEFAULT-GROUP.public.nacos",
        ),
        ("g", "under_score", "public/under-score.g.public", "under-score.g.public.nacos"),
        ("g", "..dots..", "public/dots.g.public", "dots.g.public.nacos"),
    ],
)
def test_the_default_names(group: str, service: str, resource: str, host: str) -> None:
    """The first is what Nacos's own istio module gives, so that moving over changes no host."""
    name = service_name(DEFAULTS, PUBLIC, ServiceKey(group, service))
    assert (name.resource, name.host) == (resource, host)


@pytest.mark.parametrize(
    "service", ["订单服务", ":::", "", "-", "x" * 300, "a." * 200, "a:b:c", "😀", "_", "." * 10, "A" * 63 + "_"]
)
def test_any_name_comes_out_fit_for_istio(service: str) -> None:
    """Whatever Nacos allows, labels have at most 63 characters and the host at most 253."""
    name = service_name(DEFAULTS, PUBLIC, ServiceKey("DEFAULT_GROUP", service))
    for text in (name.host, name.name):
        assert ISTIO_NAME.match(text)
        assert len(text) <= MAX_NAME
        assert max(map(len, text.split("."))) <= MAX_LABEL


def test_names_that_are_cut_stay_apart() -> None:
    """Two long names with one beginning have different hashes at their end."""
    assert normalise("x" * 100 + "1") != normalise("x" * 100 + "2")


def test_a_namespace_that_must_be_changed_always_carries_a_hash() -> None:
    """`a_b` and `a-b` are folded apart, so they must differ without knowing of each other."""
    first = service_name(DEFAULTS, Namespace("a_b"), ServiceKey("g", "s"))
    second = service_name(DEFAULTS, Namespace("a-b"), ServiceKey("g", "s"))
    assert second.istio_namespace == "a-b"
    assert first.istio_namespace != second.istio_namespace


def test_what_is_canonical() -> None:
    """Names that need no change, and those of Nacos's default group, whose one change is well known."""
    assert is_canonical(ServiceKey("DEFAULT_GROUP", "svc.a"))
    assert not is_canonical(ServiceKey("X_GROUP", "svc"))
    assert not is_canonical(ServiceKey("g", "a_b"))


def test_templates_choose_names() -> None:
    """Host, name and Istio namespace are templates."""
    settings = ConversionSettings(host="{service}.{namespace}.svc", istio_namespace="nacos", name="{service}")
    name = service_name(settings, PUBLIC, ServiceKey("g", "s"))
    assert (name.resource, name.host) == ("nacos/s", "s.public.svc")
