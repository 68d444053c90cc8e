"""Embeddings in Parquet files: written and read, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from simdist.errors import OutputError, SourceError
from simdist.sources import Access, ImageRef
from simdist.sources import saved as saved_module
from simdist.sources.saved import (
    SavedBatch,
    SavedEmbeddings,
    is_saved,
    read_saved,
)
from tests.conftest import PHOTOS
from tests.object_store import ObjectStore

REFS = [
    ImageRef("file:///a/b%20c.jpg", "f1", 10, "cats", {"price": 3.5, "tags": ["ä", None]}),
    ImageRef("s3://bucket/d.jpg", "f2", 20, None),
    ImageRef("https://host/e.jpg?x=1", "f3", 0, ""),
]


def vectors(count: int, dim: int = 7) -> NDArray[np.float32]:
    return np.random.default_rng(count).standard_normal((count, dim)).astype(np.float32)


def everything(place: object, access: Access | None = None) -> list[SavedBatch]:
    return list(read_saved(str(place), access or Access()))


def write(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def assert_come_back(place: str, access: Access) -> None:
    given = vectors(3)
    given[0, 0], given[1, 1] = np.nan, -0.0
    writer = SavedEmbeddings.create(place, access=access, model_id="net-1")
    assert not is_saved(place, access)
    writer.write(REFS[:2], given[:2])
    SavedEmbeddings.create(place, access=access, model_id="net-2").write(REFS[2:], given[2:])
    assert is_saved(place, access)
    first, second = everything(place, access)
    assert (first.model, second.model) == ("net-1", "net-2")
    got = [*first.refs, *second.refs]
    assert [(r.uri, r.fingerprint, r.label, r.metadata) for r in got] == [
        (r.uri, r.fingerprint, r.label, r.metadata) for r in REFS
    ]
    assert np.vstack([first.vectors, second.vectors]).tobytes() == given.tobytes()


def test_embeddings_saved_to_a_folder_come_back_bit_for_bit(tmp_path: Path) -> None:
    assert_come_back(str(tmp_path / "new" / "folder"), Access())
    assert {path.suffix for path in (tmp_path / "new" / "folder").iterdir()} == {".parquet"}


def test_embeddings_saved_to_a_bucket_come_back_bit_for_bit(s3: ObjectStore) -> None:
    s3.put("embeddings/deeper/other.parquet", b"not looked at")
    assert_come_back(f"{s3.uri}/embeddings", s3.access)
    s3.put("photos/a.jpg", b"")
    assert not is_saved(f"{s3.uri}/photos", s3.access)


def test_many_rows_come_in_batches_over_the_bounds_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved_module, "_DECODED", 40)
    monkeypatch.setattr(saved_module, "SORTED", 100)
    given = vectors(250)
    refs = [ImageRef(f"file:///{i}.jpg", str(i), 0, None) for i in range(250)]
    writer = SavedEmbeddings.create(str(tmp_path), access=Access(), model_id="net-1")
    writer.write(refs[:130], given[:130])
    writer.write(refs[130:], given[130:])
    batches = everything(tmp_path)
    assert [len(batch.refs) for batch in batches] == [80, 90, 80]
    assert [ref.uri for batch in batches for ref in batch.refs] == [ref.uri for ref in refs]
    assert (np.vstack([batch.vectors for batch in batches]) == given).all()
    # Bytes are bounded, too.
    monkeypatch.setattr(saved_module, "_HELD_BYTES", 50 * given[0].nbytes)
    assert max(len(batch.refs) for batch in everything(tmp_path)) == 50


def test_batches_before_a_damaged_file_are_kept(tmp_path: Path) -> None:
    SavedEmbeddings.create(str(tmp_path), access=Access(), model_id="net-1").write(REFS, vectors(3))
    (tmp_path / "z.parquet").write_bytes(b"PAR1 no more than that PAR1")
    batches = read_saved(str(tmp_path), Access())
    assert next(batches).vectors.tobytes() == vectors(3).tobytes()
    with pytest.raises(SourceError, match=r"z\.parquet"):
        next(batches)


def test_a_batch_has_one_model(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", uri=list("abcd"), model=list("xxyx"), vector=[[1.0, 2.0]] * 4
    )
    batches = everything(path)
    assert [(batch.model, len(batch.refs)) for batch in batches] == [("x", 2), ("y", 1), ("x", 1)]


@pytest.mark.parametrize("kind", ["halffloat", "float", "double"])
def test_embeddings_made_elsewhere(tmp_path: Path, kind: str) -> None:
    lists = pa.array([[1.5, 2.0], [0.25, 4.0]], pa.list_(pa.type_for_alias(kind)))
    write(tmp_path / "theirs.parquet", uri=["s3://b/1", "s3://b/2"], vector=lists, price=[1, 2])
    assert is_saved(str(tmp_path), Access())
    [batch] = everything(tmp_path)
    assert batch.model == ""
    assert batch.vectors.tolist() == [[1.5, 2.0], [0.25, 4.0]]
    assert batch.vectors.dtype == np.float32
    one, other = batch.refs
    assert (one.label, one.metadata) == (None, {})
    assert one.fingerprint != other.fingerprint
    assert everything(tmp_path)[0].refs == batch.refs


def test_files_without_embeddings(tmp_path: Path) -> None:
    assert not is_saved(str(PHOTOS), Access())
    assert not is_saved(str(tmp_path), Access())
    assert not is_saved(str(tmp_path / "nowhere"), Access())
    write(tmp_path / "list.parquet", uri=["https://host/a.jpg"], label=["a"])
    assert not is_saved(str(tmp_path), Access())
    with pytest.raises(SourceError, match="holds no embeddings"):
        everything(tmp_path)


ROW: dict[str, Any] = {"uri": "a", "vector": [1.0, 2.0], "metadata": None}
NO_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
)
BAD: dict[str, tuple[Mapping[str, Any], str]] = {
    "shorter": ({"vector": [1.0]}, "is not 2 numbers"),
    "longer": ({"vector": [1.0, 2.0, 3.0]}, "is not 2 numbers"),
    "null": ({"vector": None}, "is not 2 numbers"),
    "null inside": ({"vector": [1.0, None]}, "is not 2 numbers"),
    "empty": ({"vector": []}, "is not 2 numbers"),
    "no uri": ({"uri": None}, "is not a URI"),
    "spelled": ({"uri": "file:///ä.jpg"}, "'file:///ä.jpg' is not a URI"),
    "metadata": ({"metadata": "[1]"}, "must be a JSON object"),
    "no JSON": ({"metadata": "{"}, "must be a JSON object"),
    "large": ({"metadata": "{" + " " * (1 << 20) + "}"}, "at most 1,048,576"),
    "no UTF-8": ({"uri": NO_UTF8}, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_row_that_holds_no_embedding_costs_no_other(tmp_path: Path, case: str, at: int) -> None:
    fields, reason = BAD[case]
    rows = [ROW | {"uri": f"s3://a/{i}", "metadata": '{"n": 1}'} for i in range(5)]
    rows[at] |= {name: value for name, value in fields.items() if value is not NO_UTF8}
    columns = {name: pa.array([row[name] for row in rows]) for name in ROW}
    if fields.get("uri") is NO_UTF8:
        good = columns["uri"]
        columns["uri"] = pa.concat_arrays([good[:at], NO_UTF8, good[at + 1 :]])
    batches = everything(write(tmp_path / "some.parquet", **columns))
    assert [ref.uri for batch in batches for ref in batch.refs] == [
        f"s3://a/{i}" for i in range(5) if i != at
    ]
    assert np.vstack([batch.vectors for batch in batches]).tolist() == [[1.0, 2.0]] * 4
    [failure] = [failure for batch in batches for failure in batch.failures]
    assert failure.uri.endswith(f"some.parquet#{at}")
    assert failure.reason.startswith(f"row {at}: ")
    assert reason in failure.reason


def test_a_damaged_file(tmp_path: Path) -> None:
    writer = SavedEmbeddings.create(str(tmp_path), access=Access(), model_id="net-1")
    writer.write(REFS, vectors(3, 500))
    [path] = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match="not a Parquet file"):
        everything(tmp_path)
    data[4:60] = b"x" * 56
    path.write_bytes(data)
    with pytest.raises(SourceError, match="damaged"):
        everything(tmp_path)


def test_places_that_cannot_be_written_to(tmp_path: Path, s3: ObjectStore) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write into"):
        SavedEmbeddings.create(str(tmp_path / "file"), access=Access(), model_id="net-1")
    with pytest.raises(OutputError, match="there is no bucket s3://missing"):
        SavedEmbeddings.create("s3://missing/a", access=s3.access, model_id="net-1")
