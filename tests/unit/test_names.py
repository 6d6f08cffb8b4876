"""Names that istiod accepts, from names that Nacos allows."""

import re

import pytest

from consumers.materializer.conversion.names import (
    MAX_LABEL,
    MAX_NAME,
    is_canonical,
    istio_namespace,
    normalise,
    normalise_namespace,
    service_name,
)
from consumers.settings import ConversionSettings
from schemas.events import Namespace, ServiceKey

ISTIO_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
PUBLIC = Namespace("public")
DEFAULTS = ConversionSettings()


@pytest.mark.parametrize(
    ("group", "service", "resource", "host"),
    [
        ("DEFAULT_GROUP", "svc-0", "public/svc-0.default-group.public", "svc-0.default-group.public.nacos"),
        ("X_GROUP", "svc", "public/svc.x-group.public", "svc.x-group.public.nacos"),
        (
            "DEFAULT_GROUP",
            "providers:com.x.Y:1.0:",
            "public/providers-com.x.y-1.0.default-group.public",
            "providers-com.x.y-1.0.default-group.public.nacos",
        ),
        ("g", "under_score", "public/under-score.g.public", "under-score.g.public.nacos"),
        ("g", "..dots..", "public/dots.g.public", "dots.g.public.nacos"),
    ],
)
def test_the_default_names(group: str, service: str, resource: str, host: str) -> None:
    """Those of Nacos's own istio module in lower case: istiod's routes and clusters agree on no other spelling."""
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


@pytest.mark.parametrize("namespace", ["DEV", "a_b", "dev-1a2b3c4d", "x" * 64, "a.b", "Ünïcode", "", "-"])
def test_an_istio_namespace_is_one_label_in_lower_case(namespace: str) -> None:
    """Whatever the id is, and whatever the template adds to it."""
    for template in ("{namespace}", "nacos-{namespace}", "Nacos_{namespace}.x", "{namespace}-{group}"):
        settings = ConversionSettings(istio_namespace=template)
        name = service_name(settings, Namespace(namespace), ServiceKey("DEFAULT_GROUP", "s"))
        assert LABEL.match(name.istio_namespace), name
        assert LABEL.match(istio_namespace(settings, Namespace(namespace)))


def test_namespaces_that_come_out_alike_are_told_apart() -> None:
    """One that looks as if it carried a hash carries another: nobody can take the name of `DEV` on purpose."""
    taken = normalise_namespace("DEV")
    ids = ("dev", "DEV", "Dev", taken, taken.upper(), "dev-20231101", "x" * 64, "x" * 65)
    assert len({normalise_namespace(one) for one in ids}) == len(ids)
    assert normalise_namespace("dev") == "dev"
    for plain in ("dev-20231101", "ns-9168a2f9", "3f2b8c1e-5d77-4c0e-9a55-0242ac130003"):
        assert normalise_namespace(plain) == plain


def test_what_a_template_gives_is_made_to_fit() -> None:
    """Constants in it are judged like names: case, underscores, empty labels, a last label of digits."""
    settings = ConversionSettings(host="{service}..MY_mesh.{group}", name="N_{service}")
    name = service_name(settings, PUBLIC, ServiceKey("42", "Orders"))
    assert (name.host, name.name) == ("orders.my-mesh.x42", "n-orders")


@pytest.mark.parametrize("template", ["{service}.{group}", "{group}.{namespace}", "nacos", "{service}" * 9])
def test_each_attempt_gives_another_name(template: str) -> None:
    """Templates without the service among them, and names so long that their beginning is cut away."""
    settings = ConversionSettings(host=template, name=template)
    for service in ("s", "a." * 200, "y" * 300):
        names = [service_name(settings, PUBLIC, ServiceKey("g", service), attempt=n) for n in range(5)]
        assert len({name.host for name in names[1:]}) == 4
        assert len({name.name for name in names[1:]}) == 4
        for name in names:
            assert ISTIO_NAME.match(name.host)
            assert len(name.host) <= MAX_NAME
