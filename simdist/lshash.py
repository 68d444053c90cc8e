"""`LSHash` with lshash3's constructor and methods, on simdist's shared hash tables."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import CollectionError, UsageError
from simdist.hashing import GaussianFamily
from simdist.index.buckets import OutdatedError
from simdist.index.collection import Collection
from simdist.index.rehash import LSHASH_MODEL
from simdist.settings import Settings
from simdist.sources.reference import ImageRef
from simdist.store import (
    Store,
    connect,
    layout,
    open_store,
)
from simdist.vectors.checks import checked

Distances = NDArray[np.float64]
Entry = tuple[float, ...] | tuple[tuple[float, ...], Any]


class LSHash:
    """Locality-sensitive hashing with random hyperplanes, as lshash3 has it.

    A user of lshash3 changes one import. What differs: the hyperplanes lie with the tables, so
    that every process that opens the same name hashes alike; all tables share one Redis database;
    indexing the same vector and extra data again changes nothing.

    >>> with LSHash(8, 4, name="points") as lsh:
    ...     lsh.index([1.0, 2.0, 3.0, 4.0], extra_data="a")
    ...     lsh.query([1.0, 2.0, 3.0, 4.1], num_results=1, distance_func="cosine")
    [(((1.0, 2.0, 3.0, 4.0), 'a'), 7.57...e-05)]

    Attributes:
        family: the hyperplanes of all tables.
    """

    def __init__(
        self,
        hash_size: int,
        input_dim: int,
        num_hashtables: int = 1,
        storage_config: Mapping[str, Mapping[str, Any]] | None = None,
        matrices_filename: str | Path | None = None,
        *,
        name: str = "lshash",
    ) -> None:
        """Open the tables of a name, or create them.

        Args:
            hash_size: bits of a bucket's number, 1 to 32.
            input_dim: length of a vector.
            num_hashtables: number of tables.
            storage_config: `{"redis": {"host": ..., "port": ..., "db": ...}}`; None stands for
                the server that the settings name, or the embedded one.
            matrices_filename: an .npz file of hyperplanes, one (hash_size, input_dim) array a
                table: read if it exists, written otherwise.
            name: the collection that holds the tables.

        Raises:
            UsageError: arguments that do not go together.
            CollectionError: the name is taken by tables of another kind or size.
            StoreError: Redis cannot be reached.
        """
        self._resources = ExitStack()
        shape = (num_hashtables, hash_size, input_dim)
        with ExitStack() as opening:
            if storage_config is None:
                store = opening.enter_context(open_store(Settings.resolve()))
            else:
                store = opening.enter_context(_connected(storage_config))
            self._collection = Collection.create(
                store,
                name,
                model=LSHASH_MODEL,
                model_id=LSHASH_MODEL,
                dim=input_dim,
                dtype="float32",
            )
            self.family = self._open_family(shape, matrices_filename)
            self._resources = opening.pop_all()

    def index(self, input_point: ArrayLike, extra_data: Any = None) -> None:
        """Index one vector, with anything that JSON can hold beside it.

        Raises:
            VectorError: of the wrong dimension, not finite or of length zero.
            UsageError: JSON cannot hold the extra data.
        """
        [vector] = checked(np.atleast_2d(input_point), dim=self._collection.dim)
        self._collection.add(vector[None], [point_ref(vector, extra_data)])

    def query(
        self,
        query_point: ArrayLike,
        num_results: int | None = None,
        distance_func: str | None = None,
    ) -> list[tuple[Entry, float]]:
        """The vectors in the query's own bucket of each table, the nearest first.

        Args:
            query_point: (input_dim,) numbers.
            num_results: at most so many; None for all.
            distance_func: "euclidean" (the default; squared, as in lshash3), "true_euclidean",
                "centred_euclidean" (squared difference of the means), "cosine" (1 - cosine),
                "l1norm", or "hamming": the buckets that differ in one bit are looked up too,
                and their vectors are ranked by "euclidean".

        Returns:
            (entry, distance) pairs; an entry is the vector as a tuple, or (vector, extra data).

        Raises:
            UsageError: no such distance.
            VectorError: as `index`.
        """
        distance_func = distance_func or "euclidean"
        if distance_func not in _DISTANCES:
            raise UsageError(f"distance_func must be one of {', '.join(_DISTANCES)}")
        query = checked(np.atleast_2d(query_point), dim=self._collection.dim)
        probes = self.family.buckets(query).T
        if distance_func == "hamming":
            bits = np.left_shift(np.uint32(1), np.arange(self.family.planes.shape[1]))
            probes = np.hstack([probes, probes ^ bits.astype(np.uint32)])
        wanted = [(table, bucket, 0) for table, some in enumerate(probes) for bucket in set(some)]
        partition = self._collection.partitions[0]
        try:
            reading = partition.read(self._generation, np.array(wanted))
        except OutdatedError as error:
            # These tables are not rebuilt.
            raise CollectionError(
                f"the collection {self._collection.name!r} was lost, and made anew meanwhile: open "
                "the LSHash again"
            ) from error
        rows = np.unique(reading.rows)
        found = [stored for stored in partition.rows(rows) if stored is not None]
        if not found:
            return []
        values, _ = partition.codec.unpack(np.stack([vector for vector, _ in found]))
        records = [layout.unpack_record(record) for _, record in found]
        vectors = values.astype(np.float64)
        distances = _DISTANCES[distance_func](vectors, query[0].astype(np.float64))
        order = np.argsort(distances, kind="stable")[:num_results]
        return [(_entry(vectors[i], records[i].metadata), float(distances[i])) for i in order]

    def close(self) -> None:
        """Let go of the connection (and of the embedded server, where that is used)."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_family(
        self, shape: tuple[int, int, int], matrices: str | Path | None
    ) -> GaussianFamily:
        tables, bits, dim = shape
        if not self._collection.is_fitted():
            self._collection.partitions[0].fit(
                _planes_from(Path(matrices), shape)
                if matrices is not None
                else GaussianFamily.draw(dim=dim, bits=bits, tables=tables)
            )
        hashing = self._collection.partitions[0].families.now()
        family, self._generation = hashing.family, hashing.generation
        if not isinstance(family, GaussianFamily) or family.planes.shape != shape:
            raise CollectionError(
                f"{self._collection.name!r} already holds tables of another kind or size: "
                "choose another name"
            )
        return family


def point_ref(vector: NDArray[np.float32], extra: Any) -> ImageRef:
    """A point and what belongs to it, by a name that follows from both.

    Raises:
        UsageError: JSON cannot hold what belongs to it.
    """
    metadata = {} if extra is None else {"extra": extra}
    try:
        content = vector.tobytes() + json.dumps(metadata, sort_keys=True).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(f"extra data must be JSON: {error}") from error
    uri = f"lshash:{hashlib.sha256(content).hexdigest()}"
    return ImageRef(uri, "", vector.nbytes, None, metadata=metadata)


def _connected(storage_config: Mapping[str, Mapping[str, Any]]) -> closing[Store]:
    if set(storage_config) != {"redis"}:
        raise UsageError('storage_config must be {"redis": {"host": ..., "port": ..., "db": ...}}')
    server = dict(storage_config["redis"])
    host, port = server.pop("host", "localhost"), server.pop("port", 6379)
    database, password = server.pop("db", 0), server.pop("password", None)
    if server:
        raise UsageError(f"unknown in storage_config: {', '.join(sorted(server))}")
    user = f":{quote(password, safe='')}@" if password else ""
    return closing(connect(f"redis://{user}{host}:{port}/{database}"))


def _planes_from(path: Path, shape: tuple[int, int, int]) -> GaussianFamily:
    tables, bits, dim = shape
    if not path.exists():
        family = GaussianFamily.draw(dim=dim, bits=bits, tables=tables)
        np.savez_compressed(path, *family.planes)
        return family
    try:
        with np.load(path, allow_pickle=False) as file:
            # In the order of their names, arr_10 before arr_2: so lshash3 reads them.
            planes = np.stack([file[name] for name in sorted(file.files)])
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not an .npz file of hyperplanes") from error
    if planes.shape != shape:
        raise UsageError(f"{path} holds hyperplanes of shape {planes.shape}, not {shape}")
    return GaussianFamily(planes)


def _entry(vector: NDArray[np.float64], metadata: Mapping[str, Any]) -> Entry:
    point = tuple(vector.tolist())
    return (point, metadata["extra"]) if metadata else point


def _squared_euclidean(vectors: Distances, query: Distances) -> Distances:
    squares: Distances = np.square(vectors - query).sum(axis=1)
    return squares


def _centred_euclidean(vectors: Distances, query: Distances) -> Distances:
    # Of the means, not of the vectors less their means: so lshash3 has it.
    squares: Distances = np.square(vectors.mean(axis=1) - query.mean())
    return squares


def _one_minus_cosine(vectors: Distances, query: Distances) -> Distances:
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    distances: Distances = 1 - vectors @ query / lengths
    return distances


_DISTANCES: Mapping[str, Callable[[Distances, Distances], Distances]] = {
    "euclidean": _squared_euclidean,
    "true_euclidean": lambda vectors, query: np.sqrt(_squared_euclidean(vectors, query)),
    "centred_euclidean": _centred_euclidean,
    "cosine": _one_minus_cosine,
    "hamming": _squared_euclidean,
    "l1norm": lambda vectors, query: np.abs(vectors - query).sum(axis=1),
}
