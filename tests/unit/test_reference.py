"""What can be stored of an image, and what of it is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdist.sources import ImageRef, ListingFailure, open_source
from simdist.sources.reference import MAX_DEPTH, MAX_LABEL, MAX_NOTE, MAX_URI
from simdist.store import layout
from tests.archives import tar_of
from tests.conftest import PHOTOS

FISH = next((PHOTOS / "fish").iterdir())
URI = "file:///a.jpg"
# Any text, halves of surrogate pairs too; JSON of any depth; what JSON has no word for.
TEXT = st.text(st.characters(codec=None), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=20,
)


def nested(depth: int) -> dict[str, Any]:
    """A JSON object of that depth."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"in": value}
    return value


def stored(ref: ImageRef) -> layout.Record:
    """What comes back of what is stored of an image."""
    packed = layout.pack_records([ref.uri.encode()], [ref.label], [ref.metadata], [b""], [b""])
    return layout.unpack_record(packed[0])


@given(uri=TEXT, label=st.none() | TEXT, metadata=st.dictionaries(TEXT, VALUES, max_size=3))
def test_what_has_no_flaw_is_stored_whole(
    uri: str, label: str | None, metadata: Mapping[str, Any]
) -> None:
    ref = ImageRef(uri, "1", 1, label, metadata)
    if ref.flaw() is None:
        record = stored(ref)
        assert (record.uri, record.label, record.metadata) == (uri, label, metadata)
        json.dumps(record.metadata, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("uri", "label", "metadata"),
    [
        ("a" * MAX_URI, "é" * (MAX_LABEL // 2), {"a": "é" * (MAX_NOTE // 2 - 10)}),
        (URI, "", {"in": nested(MAX_DEPTH - 1)}),
        (URI, "\N{FISH}", {"\N{FISH}": "\N{FISH}"}),
    ],
)
def test_the_largest_are_stored(uri: str, label: str, metadata: dict[str, Any]) -> None:
    ref = ImageRef(uri, "1", 1, label, metadata)
    assert ref.flaw() is None
    assert stored(ref) == layout.Record(uri, label, metadata)


@pytest.mark.parametrize(
    ("ref", "flaw"),
    [
        (ImageRef("a" * (MAX_URI + 1), "1", 1, None), "its URI has 65,536 characters"),
        (ImageRef("", "1", 1, None), "its URI has 0 characters"),
        (ImageRef("file:///ä", "1", 1, None), "of ASCII"),
        (ImageRef(URI, "1", 1, "a" * (MAX_LABEL + 1)), "its label has 65,535 bytes"),
        (ImageRef(URI, "1", 1, "caf\udce9"), "its label is not UTF-8"),
        (ImageRef(URI, "1", 1, None, {"a": ["caf\udce9"]}), "its metadata is not UTF-8"),
        (ImageRef(URI, "1", 1, None, {"caf\udce9": 1}), "its metadata is not UTF-8"),
        (ImageRef(URI, "1", 1, None, {"a": float("nan")}), "its metadata is not JSON"),
        (ImageRef(URI, "1", 1, None, {"a": b"1"}), "its metadata is not JSON"),
        (ImageRef(URI, "1", 1, None, {"a": "x" * MAX_NOTE}), "its metadata has 65,545 bytes"),
        (ImageRef(URI, "1", 1, None, nested(MAX_DEPTH + 2)), "nested more than 64 deep"),
        (ImageRef(URI, "1", 1, None, nested(100_000)), "nested more than 64 deep"),
    ],
)
def test_what_cannot_be_stored_says_why(ref: ImageRef, flaw: str) -> None:
    assert flaw in (ref.flaw() or "")


def test_a_row_that_cannot_be_stored_is_a_failure_with_its_number(tmp_path: Path) -> None:
    rows = ["path,label,note"] + [f"{FISH},{i},fine" for i in range(3)]
    rows[2:2] = [f"{FISH},a,{'x' * MAX_NOTE}", f"{FISH},{'x' * 70_000},fine"]
    rows += [f"https://example.org/{'魚' * 8_000}.jpg,a,fine"]
    file = tmp_path / "list.csv"
    file.write_bytes("\n".join(rows).encode(errors="surrogateescape"))
    entries = list(open_source(str(file)).entries)
    assert [entry.label for entry in entries if isinstance(entry, ImageRef)] == ["0", "1", "2"]
    assert [entry.reason[:22] for entry in entries if isinstance(entry, ListingFailure)] == [
        "line 3: its metadata h",
        "line 4: its label has ",
        "line 7: its URI has 72",
    ]


def test_an_image_of_an_archive_that_cannot_be_stored_is_a_failure(tmp_path: Path) -> None:
    deep = json.dumps(nested(260)).encode()
    members = {"a.jpg": b"1", "a.cls": b"x" * 65_536, "b.jpg": b"2", "b.json": deep, "c.jpg": b"3"}
    (tmp_path / "a.tar").write_bytes(tar_of(members))
    entries = list(open_source(str(tmp_path / "a.tar")).entries)
    assert [entry.uri[-5:] for entry in entries if isinstance(entry, ImageRef)] == ["c.jpg"]
    reasons = [entry.reason for entry in entries if isinstance(entry, ListingFailure)]
    assert ["its label has" in reasons[0], "nested" in reasons[1], len(reasons)] == [True, True, 2]


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 260, 900, 20_000])
def test_what_an_earlier_version_stored_is_shown_all_the_same(depth: int) -> None:
    """A surrogate of its own and endless nesting, which an answer cannot hold."""
    packed = '{"a":' * depth + '"caf\\udce9"' + "}" * depth
    record = b"\x01\x00\x00\x00\x00u" + packed.encode()
    shown = layout.unpack_record(record).metadata
    json.dumps(shown, ensure_ascii=False).encode()
    assert len(json.dumps(shown)) < 10 * MAX_DEPTH


def test_a_surrogate_of_its_own_is_shown_as_a_question_mark() -> None:
    record = b'\x01\x00\x00\x00\x00u{"a":["caf\\udce9"],"\\udce9":"\\ud83d\\udc1f"}'
    assert layout.unpack_record(record).metadata == {"a": ["caf?"], "?": "\N{FISH}"}
