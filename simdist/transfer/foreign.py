"""Embeddings that other programs have written -> vectors and references, some thousand at a time.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError, UsageError
from simdist.lshash import point_ref
from simdist.sources import ImageRef, is_web_address
from simdist.store import connect

if TYPE_CHECKING:
    import pyarrow as pa

# Vectors that are read together.
BATCH = 1 << 13
# clip-retrieval's, of embeddings and of what is said of them.
_EMBEDDINGS, _METADATA = "img_emb", "metadata"
# Of its columns, those that name the image, the first that there is.
_NAMES = ("url", "image_path", "key")


@dataclass(frozen=True)
class Vectors:
    """(n, dim) vectors of any values and lengths, and what each is the embedding of."""

    vectors: NDArray[np.float32]
    refs: list[ImageRef]


def reference(
    uri: str, vector: NDArray[np.float32], metadata: Mapping[str, Any] | None = None
) -> ImageRef:
    """What a vector is the embedding of; its content is the vector's."""
    fingerprint = blake2b(vector.tobytes(), digest_size=16).hexdigest()
    return ImageRef(uri, fingerprint, 0, None, metadata=metadata or {})


def read_uris(path: Path) -> list[str]:
    """A list of URIs, one a line.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        return [as_uri(line) for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read the list of URIs {path}: {error}") from error


def in_batches(path: Path, vectors: NDArray[Any], uris: Sequence[str]) -> Iterator[Vectors]:
    """(n, dim) numbers of a file and n URIs, some thousand at a time.

    Raises:
        SourceError: they are not as many.
    """
    if len(uris) != len(vectors):
        raise SourceError(
            f"there are {len(uris):,} URIs for the {len(vectors):,} vectors of {path}"
        )
    for start in range(0, len(vectors), BATCH):
        some = np.array(vectors[start : start + BATCH], np.float32)
        named = zip(uris[start : start + BATCH], some, strict=True)
        yield Vectors(some, [reference(uri, vector) for uri, vector in named])


def read_array(path: Path, uris: Sequence[str] | None) -> Iterator[Vectors]:
    """A `.npy` file of (n, dim) numbers, whose images are n URIs.

    Raises:
        UsageError: there are no URIs.
        SourceError: the file cannot be read, or they do not go together.
    """
    if uris is None:
        raise UsageError("an array says nothing of its images: give a list of their URIs, too")
    yield from in_batches(path, _array(path), uris)


def as_uri(name: str) -> str:
    """A name as a URI: an address as it is, anything else percent-encoded where needed."""
    return quote(name, safe="/:?#[]@!$&'()*+,;=%~-._")


def is_clip_retrieval(folder: Path) -> bool:
    """Whether a folder is one that clip-retrieval's inference has written."""
    return (folder / _EMBEDDINGS).is_dir() and (folder / _METADATA).is_dir()


def read_clip_retrieval(folder: Path) -> Iterator[Vectors]:
    """The image embeddings of clip-retrieval's folder, with the columns beside them as metadata.

    Raises:
        SourceError: a file cannot be read, or two do not go together.
    """
    for path in sorted((folder / _EMBEDDINGS).glob("*.npy"), key=_number):
        table_path = folder / _METADATA / f"metadata_{_number(path)}.parquet"
        array, table = _array(path), _table(table_path)
        if len(array) != len(table):
            raise SourceError(
                f"{table_path} has {len(table):,} rows, {path} {len(array):,} vectors: they do not "
                "go together"
            )
        name = next((name for name in _NAMES if name in table.column_names), None)
        if name is None:
            raise SourceError(f"{table_path} has none of the columns {', '.join(_NAMES)}")
        for start in range(0, len(array), BATCH):
            vectors = np.ascontiguousarray(array[start : start + BATCH], np.float32)
            rows = table.slice(start, len(vectors)).to_pylist()
            yield Vectors(vectors, list(map(_described, rows, vectors, [name] * len(rows))))


def _described(row: Mapping[str, Any], vector: NDArray[np.float32], name: str) -> ImageRef:
    given = str(row[name])
    metadata = {key: _plain(value) for key, value in row.items() if key != name}
    uri = given if is_web_address(given) else as_uri(given)
    return reference(uri, vector, {key: value for key, value in metadata.items() if value})


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _number(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    if not digits.isdecimal():
        raise SourceError(f"{path} is not called as clip-retrieval calls its files")
    return int(digits)


def _array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not a .npy file of numbers: {error}") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise SourceError(
            f"{path} has the shape {array.shape} of {array.dtype}: (n, dim) is needed"
        )
    checked: NDArray[Any] = array
    return checked


def _table(path: Path) -> pa.Table:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise SourceError(f"{path} is not a Parquet file that can be read") from error


def read_lshash3(path: Path) -> Iterator[Vectors]:
    """A JSON file of lshash3's tables in memory, `[t.storage for t in lsh.hash_tables]`, or of one.

    Raises:
        SourceError: it cannot be read, or holds something else.
    """
    try:
        tables = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not a JSON file that can be read: {error}") from error
    first = tables[0] if isinstance(tables, list) and tables else tables
    if not isinstance(first, dict):
        raise SourceError(f"{path} holds no tables of lshash3: objects of lists of points")
    # Each point lies in every table.
    points = (point for bucket in first.values() for point in bucket)
    while some := list(islice(points, BATCH)):
        yield lshash3_points(some)


def read_lshash3_redis(url: str) -> Iterator[Vectors]:
    """The points of lshash3's first table, in the database of that number.

    Raises:
        StoreError: the server cannot be reached.
        SourceError: there are other things in it.
    """
    with closing(connect(url)) as store:
        for key in store.scan("*"):
            if key.strip(b"01"):
                continue
            for start in count(0, BATCH):
                stored = store.call("LRANGE", key, start, start + BATCH - 1)
                if not stored:
                    break
                try:
                    yield lshash3_points([json.loads(point) for point in stored])
                except ValueError as error:
                    raise SourceError(f"{key.decode()} holds no points of lshash3") from error


def lshash3_points(values: Sequence[Any]) -> Vectors:
    """Points as lshash3 keeps them: a list of numbers, or such a list and what belongs to it.

    They get the URIs that `simdist.LSHash` gives them.

    Raises:
        SourceError: they are no points.
    """
    points, extras = [], []
    for value in values:
        paired = isinstance(value, list) and len(value) == 2 and isinstance(value[0], list)
        point, extra = value if paired else (value, None)
        points.append(point)
        extras.append(extra)
    try:
        vectors = np.array(points, np.float32)
    except (TypeError, ValueError) as error:
        raise SourceError("lshash3's points are not lists of numbers of one length") from error
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise SourceError("lshash3's points are not lists of numbers")
    refs = [point_ref(vector, extra) for vector, extra in zip(vectors, extras, strict=True)]
    return Vectors(vectors, refs)
