"""Lists as people have them: exported by anything, in any encoding, edited by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simdist.errors import SourceError
from simdist.sources import (
    Columns,
    ImageRef,
    ListingFailure,
    Selection,
    open_source,
    read_many,
)
from tests.conftest import PHOTOS

FISH = sorted((PHOTOS / "fish").glob("*.jpg"))[:3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, photo in zip(("a.jpg", "b.jpg", "cafe\u0301 é.jpg"), FISH, strict=True):
        shutil.copy(photo, tmp_path / name)
    return tmp_path


def look(path: Path, columns: Columns | None = None) -> tuple[list[ImageRef], list[str]]:
    entries = list(
        open_source(str(path), selection=Selection(columns=columns or Columns())).entries
    )
    reasons = [entry.reason for entry in entries if isinstance(entry, ListingFailure)]
    return [entry for entry in entries if isinstance(entry, ImageRef)], reasons


@pytest.mark.parametrize(
    "header",
    [
        "URL,TEXT",
        "Image URL,TEXT",
        "imageUrl,TEXT",
        "file_name,TEXT",
        "IMAGE_PATH,TEXT",
        "Uri,TEXT",
    ],
)
def test_usual_names_are_known_whatever_their_case(folder: Path, header: str) -> None:
    (folder / "list.csv").write_text(f"{header}\na.jpg,a fish\n")
    [ref], reasons = look(folder / "list.csv")
    assert (ref.metadata, reasons) == ({"TEXT": "a fish"}, [])


@pytest.mark.parametrize("name", ["Label", "CLASS", "category"])
def test_labels_have_usual_names_too(folder: Path, name: str) -> None:
    (folder / "list.csv").write_text(f"path,{name}\na.jpg,fish\n")
    [ref], _ = look(folder / "list.csv")
    assert (ref.label, ref.metadata) == ("fish", {})


def test_a_column_is_named_in_any_case_but_never_guessed(folder: Path) -> None:
    (folder / "list.csv").write_text("Link,Kind,kind\na.jpg,x,y\n")
    [ref], _ = look(folder / "list.csv", Columns(uri="LINK"))
    assert ref.metadata == {"Kind": "x", "kind": "y"}
    with pytest.raises(SourceError, match="no column 'KIND'"):
        look(folder / "list.csv", Columns(uri="Link", label="KIND"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["list.csv", "list.tsv"])
def test_separators_are_found_out(folder: Path, separator: str, name: str) -> None:
    rows = [["url", "label", "price, net"], ["a.jpg", "fish", "1,50"], ["b.jpg", "x", "2"]]
    text = "\n".join(separator.join(f'"{field}"' for field in row) for row in rows)
    (folder / name).write_text(text)
    refs, reasons = look(folder / name)
    assert reasons == []
    assert [(ref.label, ref.metadata) for ref in refs] == [
        ("fish", {"price, net": "1,50"}),
        ("x", {"price, net": "2"}),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_encodings_are_found_out(folder: Path, suffix: str, encoding: str) -> None:
    lines = ["a.jpg", "cafe\u0301 é.jpg", "b.jpg"]
    if suffix == ".csv":
        lines = ["url;caption", *(f"{line};Pêcher à Süd" for line in lines)]
    (folder / f"list{suffix}").write_bytes("\r\n".join(lines).encode(encoding))
    refs, reasons = look(folder / f"list{suffix}")
    assert (len(refs), reasons) == (3, [])
    if suffix == ".csv":
        assert {ref.metadata["caption"] for ref in refs} == {"Pêcher à Süd"}


def test_western_letters_of_windows_are_read(folder: Path) -> None:
    (folder / "list.csv").write_bytes("url,label\na.jpg,Fisch für Käse\n".encode("cp1252"))
    [ref], reasons = look(folder / "list.csv")
    assert (ref.label, reasons) == ("Fisch für Käse", [])


def test_one_line_that_is_not_utf8_costs_no_other(folder: Path) -> None:
    lines = [b"url,label", "a.jpg,Süd".encode(), b"b.jpg,S\xfcd", "a.jpg,é".encode()]
    (folder / "list.csv").write_bytes(b"\n".join(lines))
    refs, reasons = look(folder / "list.csv")
    assert [ref.label for ref in refs] == ["Süd", "é"]
    assert reasons == ["line 3: its label is not UTF-8"]


def test_quotes_commas_and_newlines_in_fields(folder: Path) -> None:
    text = 'url,label,note\n"a.jpg","one, two","three\nfour ""five"""\nb.jpg,x,y\n'
    (folder / "list.csv").write_text(text)
    refs, reasons = look(folder / "list.csv")
    assert reasons == []
    assert [(ref.label, ref.metadata["note"]) for ref in refs] == [
        ("one, two", 'three\nfour "five"'),
        ("x", "y"),
    ]


def test_a_quote_without_end_costs_its_line_alone(folder: Path) -> None:
    lines = ["url,label", "a.jpg,one", '"b.jpg,two', "a.jpg,three", 'b.jpg,"four', "a.jpg,five"]
    (folder / "list.csv").write_text("\n".join(lines + ["a.jpg,more"] * 9000))
    refs, reasons = look(folder / "list.csv")
    assert [ref.label for ref in refs[:4]] == ["one", "three", "five", "more"]
    assert len(refs) == 9003
    assert [reason.partition(":")[0] for reason in reasons] == ["line 3", "line 5"]


def test_lines_of_too_many_or_too_few_fields_are_failures(folder: Path) -> None:
    lines = ["url,label", "a.jpg", "b.jpg,x,y", "", "a.jpg,good", "~$b.jpg,x"]
    (folder / "list.csv").write_text("\n".join(lines))
    refs, reasons = look(folder / "list.csv")
    assert [ref.label for ref in refs] == ["good"]
    assert reasons[:2] == [
        "line 2: 1 fields, where the first line has 2",
        "line 3: 3 fields, where the first line has 2",
    ]
    assert reasons[2].startswith("line 6: cannot read")


def test_web_addresses_are_the_same_whatever_the_case_of_their_host(folder: Path) -> None:
    lines = ["HTTPS://Example.ORG/A.jpg?T=1", "https://example.org/A.jpg?T=1"]
    (folder / "list.txt").write_text("\n".join(lines))
    refs, _ = look(folder / "list.txt")
    assert [ref.uri for ref in refs] == ["https://example.org/A.jpg?T=1"] * 2


NAMES = ["a.jpg", "b.jpg"]
BYTES = [photo.read_bytes() for photo in FISH[:2]]
PATHS = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TABLES = {
    "structs": {"image": [{"bytes": b, "path": n} for b, n in zip(BYTES, NAMES, strict=True)]},
    "paths alone": {"image": pa.array([{"bytes": None, "path": n} for n in NAMES], PATHS)},
    "bytes and path": {"bytes": BYTES, "path": NAMES},
    "dictionary": {"image": pa.array(BYTES).dictionary_encode()},
    "large": {"img": pa.array(BYTES, pa.large_binary())},
    "views": {"img": pa.array(BYTES, pa.binary_view())},
    "addresses by number": {"URL": pa.array(NAMES).dictionary_encode(), "NSFW": [0.1, None]},
    "long addresses": {"Url": pa.array(NAMES, pa.large_string())},
    "shards in a table": {"jpg": BYTES, "json": [b"{}", b"{}"], "__key__": NAMES},
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_any_kind_give_their_images(folder: Path, name: str) -> None:
    pq.write_table(pa.table(TABLES[name]), folder / "a.parquet")
    source = open_source(str(folder / "a.parquet"))
    refs = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    assert list(read_many(refs, source.access)) == BYTES


def test_rows_without_an_image_are_failures_of_theirs(folder: Path) -> None:
    images = [{"bytes": BYTES[0], "path": "x"}, None, {"bytes": None, "path": "y"}]
    pq.write_table(pa.table({"image": images}), folder / "a.parquet")
    source = open_source(str(folder / "a.parquet"))
    refs = [entry for entry in source.entries if isinstance(entry, ImageRef)]
    good, *bad = read_many(refs, source.access)
    assert good == BYTES[0]
    assert [str(error).partition(" of ")[0] for error in bad] == ["row 1", "row 2"]
