"""A resource's version is its content: Pilots ignore one whose version they know, whatever is in it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.digests import content_digest
from schemas.events import Datacenter
from schemas.records import Part, resource_version

TEXTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3)
PARTS = st.dictionaries(st.sampled_from(["a", "b"]), st.binary(max_size=3), max_size=2).map(
    lambda bodies: tuple(
        Part(datacenter=Datacenter(name), digest=content_digest(body), body=body) for name, body in bodies.items()
    )
)
CONTENTS = st.tuples(st.sampled_from(["type/x", "type/y"]), TEXTS, TEXTS, st.binary(max_size=3), PARTS)
Content = tuple[str, dict[str, str], dict[str, str], bytes, tuple[Part, ...]]


def version(content: Content) -> str:
    """Of that content."""
    type_url, labels, annotations, head, parts = content
    return resource_version(type_url=type_url, labels=labels, annotations=annotations, head=head, parts=parts)


@given(one=CONTENTS, other=CONTENTS)
@example(one=("t", {}, {"a": "x\na1:by"}, b"", ()), other=("t", {}, {"a": "x", "b": "y"}, b"", ()))
def test_versions_are_equal_where_contents_are(one: Content, other: Content) -> None:
    """Type, labels, annotations, body: each counts, the order of labels does not."""
    assert (version(one) == version(other)) == (one == other)
    type_url, labels, annotations, head, parts = one
    turned = dict(reversed(labels.items())), dict(reversed(annotations.items()))
    assert version((type_url, *turned, head, parts)) == version(one)
