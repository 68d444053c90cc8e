"""Small files that stand for gigabytes are refused, or read within a bound of memory."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.archives import tar_of

pytestmark = pytest.mark.slow

# Bytes that a process may take beyond what it has when all is imported.
ROOM = 2 << 30
_READ = """
import resource, sys
import pyarrow.compute, pyarrow.parquet
from simdist.errors import SimdistError
from simdist.sources import Access, ImageRef, open_source, read_many
from simdist.sources.saved import read_saved

size = next(int(line.split()[1]) for line in open("/proc/self/status") if "VmSize" in line)
limit = size * 1024 + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
how, path = sys.argv[1:3]
try:
    if how == "saved":
        counts = [(len(batch.refs), len(batch.failures)) for batch in read_saved(path, Access())]
        print("saved", sum(good for good, _ in counts), sum(bad for _, bad in counts))
    else:
        entries = list(open_source(path).entries)
        refs = [entry for entry in entries if isinstance(entry, ImageRef)]
        print("listed", len(refs), len(entries) - len(refs))
        if how == "images":
            found = sum(isinstance(data, bytes) for data in read_many(refs[:40], Access()))
            print("read", found)
except SimdistError as error:
    print("refused", error)
"""


def read(how: str, path: Path) -> str:
    """What reading a file comes to, in a process that is killed when it takes too much."""
    command = [sys.executable, "-c", _READ, how, str(path), str(ROOM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def repeated(value: pa.Array, rows: int) -> pa.Array:
    """One value in so many rows, written once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), value)


def image_bomb(path: Path) -> None:
    column = repeated(pa.array([bytes(16 << 20)]), 4000)
    parquet.write_table(pa.table({"image": column}), path, compression="zstd", store_schema=False)


def note_bomb(path: Path) -> None:
    columns = {
        "image": repeated(pa.array([b"x"]), 20_000),
        "note": repeated(pa.array(["x" * (8 << 20)]), 20_000),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)


def prefix_bomb(path: Path) -> None:
    """Each value is what it shares with the one before."""
    columns = {"image": [b"x"] * 200, "note": ["x" * (8 << 20)] * 200}
    parquet.write_table(
        pa.table(columns),
        path,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"image": "PLAIN", "note": "DELTA_BYTE_ARRAY"},
    )


def list_bomb(path: Path) -> None:
    numbers = pa.array(np.zeros(60_000_000, np.int64))
    columns = {
        "image": pa.array([b"x", b"x"]),
        "numbers": pa.ListArray.from_arrays(pa.array([0, len(numbers), len(numbers)]), numbers),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd")


def nested_bomb(path: Path) -> None:
    text = repeated(pa.array(["x" * (8 << 20)]), 100_000)
    names = pa.ListArray.from_arrays(pa.array(range(0, 100_001, 10), pa.int32()), text)
    columns = {"image": pa.array([b"x"] * 10_000), "names": names}
    parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)


def vector_bomb(path: Path) -> None:
    floats = pa.array(np.zeros(50_000_000, np.float32))
    vector = pa.ListArray.from_arrays(pa.array([0, len(floats)]), floats)
    columns = {"uri": ["s3://a/b.jpg"] * 3, "vector": pa.chunked_array([vector] * 3)}
    parquet.write_table(pa.table(columns), path, compression="zstd")


def saved_note_bomb(path: Path) -> None:
    columns = {
        "uri": [f"s3://a/{i}.jpg" for i in range(20_000)],
        "model": ["net"] * 20_000,
        "vector": pa.array([[1.0, 2.0]] * 20_000, pa.list_(pa.float32())),
        "metadata": repeated(pa.array(['{"a":"' + "x" * (8 << 20) + '"}']), 20_000),
    }
    parquet.write_table(pa.table(columns), path, compression="zstd", store_schema=False)


@pytest.mark.parametrize(
    ("how", "write", "expected"),
    [
        ("images", image_bomb, "listed 4000 0\nread 40\n"),
        ("list", note_bomb, "listed 0 20000\n"),
        ("list", prefix_bomb, "listed 0 200\n"),
        ("list", list_bomb, "listed 1 1\n"),
        ("list", nested_bomb, "listed 0 10000\n"),
        ("saved", vector_bomb, "refused"),
        ("saved", saved_note_bomb, "saved 0 20000\n"),
    ],
)
def test_a_few_kilobytes_of_parquet_never_become_gigabytes(
    tmp_path: Path, how: str, write: Callable[[Path], None], expected: str
) -> None:
    path = tmp_path / "bomb.parquet"
    write(path)
    assert path.stat().st_size < 100_000
    assert read(how, path).startswith(expected)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """What comes before it is listed; the file has the bytes, but not on the disk."""
    path, size = tmp_path / "bomb.tar", 4 << 30
    header = tarfile.TarInfo("pax")
    header.type, header.size = kind, size
    data = tar_of({"a.jpg": b"1"})[:1024] + header.tobuf(tarfile.USTAR_FORMAT)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(len(data) + size)
    assert read("list", path) == "listed 1 1\n"


@pytest.mark.parametrize("how", ["images", "saved"])
def test_what_a_file_says_of_itself_does_not_end_the_process(how: str, tmp_path: Path) -> None:
    """Of a column that has no nulls by the schema, and room for them by its statistics."""
    path = tmp_path / "contradiction.parquet"
    columns = {"uri": ["urn:a"], "vector": [[1.0]], "image": [b"x"], "label": ["fish"]}
    parquet.write_table(pa.table(columns), path)
    data = path.read_bytes()
    optional, required = b"\x25\x02\x18\x05label", b"\x25\x00\x18\x05label"
    assert data.count(optional) == 1
    path.write_bytes(data.replace(optional, required))
    assert read(how, path).startswith("refused")
