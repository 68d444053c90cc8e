"""The hash tables of a collection in Redis, and the records that they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, StoreError
from simdist.hashing import HashFamily, dump_family, load_family
from simdist.sources.reference import ImageRef
from simdist.store import Store, layout
from simdist.store.connection import Argument
from simdist.vectors import normalised


@dataclass(frozen=True)
class Hashing:
    """The hash family in use, and the one that is to follow it, while its tables are filled."""

    generation: int
    family: HashFamily
    following: HashFamily | None


@dataclass(frozen=True)
class HashTables:
    """The hash tables of one collection, shared by all processes.

    Attributes:
        collection: its name.
        dim: length of a vector.
        dtype: how vectors are stored: int8 with a scale each, or float32.
    """

    store: Store
    collection: str
    dim: int
    dtype: np.dtype[Any]
    # Families by generation, each read once and kept: they never change.
    _families: dict[int, HashFamily] = field(default_factory=dict, repr=False, compare=False)

    @property
    def meta_key(self) -> str:
        """The key that holds the collection's state."""
        return layout.meta_key(self.collection)

    @property
    def fitted(self) -> bool:
        """Whether it has hash tables: from the first `add` on."""
        return self._generations()[0] > 0

    def hashing(self) -> Hashing:
        """The hash families in use now.

        Raises:
            CollectionError: nothing has been added yet.
        """
        generation, following = self._generations()
        if generation == 0:
            raise CollectionError(
                f"the collection {self.collection!r} is empty: put images into it with "
                f"'simdist ingest FOLDER --collection {self.collection}'"
            )
        return Hashing(
            generation, self._family(generation), self._family(following) if following else None
        )

    def fit(self, family: HashFamily, *, images: int = 0) -> None:
        """Give the collection its first hash family; if it has one by now, that one stays.

        Args:
            images: how many the family was fitted on.
        """
        self.store.run("fit", [self.meta_key], [images, dump_family(family)])

    def commit(
        self,
        vectors: NDArray[np.float32],
        refs: Sequence[ImageRef],
        metadata: Sequence[Mapping[str, Any]],
    ) -> bytes:
        """Write a batch of images, whole or not at all; what is there already stays as it is.

        Args:
            vectors: (n, dim) float32, checked; n is `collection.COMMIT_BATCH` at the most.

        Returns:
            A character for each image: '=' unchanged, '+' added, '~' replaced.
        """
        values: NDArray[Any] = vectors
        scales = np.ones(len(vectors), np.float32)
        if self.dtype == np.int8:
            values, scales = layout.quantise(vectors)
        records = [
            layout.pack_record(
                values[i], scales[i], uri=ref.uri, label=ref.label, metadata=metadata[i]
            )
            for i, ref in enumerate(refs)
        ]
        # Bucketed as they are stored: rebuilt tables, which know nothing else, come out the same.
        stored = normalised(values.astype(np.float32))
        while True:
            hashing = self.hashing()
            families = [hashing.family, *([hashing.following] if hashing.following else [])]
            buckets = np.hstack([family.buckets(stored) for family in families])
            arguments: list[Argument] = [hashing.generation, hashing.family.tables]
            if hashing.following:
                arguments += [hashing.generation + 1, hashing.following.tables]
            else:
                arguments += [0, 0]
            for i, ref in enumerate(refs):
                arguments += [layout.digests(ref.uri, ref.fingerprint), records[i]]
                arguments.append(buckets[i].astype(layout.ROW_DTYPE).tobytes())
            results: bytes | None = self.store.run("commit", [self.meta_key], arguments)
            # None: the tables were rebuilt in between.
            if results is not None:
                return results

    def unpack(self, packed: bytes) -> layout.Record:
        """A packed record, whole."""
        return layout.unpack_record(packed, dim=self.dim, dtype=self.dtype)

    def records(self, rows: Iterable[int]) -> list[bytes | None]:
        """The packed records of rows, None for those deleted; one round trip."""
        prefix = layout.key(self.collection, "row", "")
        keys = [f"{prefix}{row}" for row in rows]
        if not keys:
            return []
        packed: list[bytes | None] = self.store.call("MGET", *keys)
        return packed

    def bucket_rows(self, generation: int, probes: NDArray[np.uint32]) -> NDArray[np.uint32] | None:
        """The rows in buckets, each once, ascending; those of deleted images among them.

        Args:
            generation: whose tables.
            probes: (tables, probes) bucket numbers.

        Returns:
            (rows,) uint32, or None if that generation's tables have been replaced.
        """
        keys = [
            layout.key(self.collection, "bucket", generation, table, bucket)
            for table, buckets in enumerate(probes)
            for bucket in buckets
        ]
        # The generation after the buckets: if it is still the same, none was dropped meanwhile.
        found, now = self.store.call_many([("MGET", *keys), ("HGET", self.meta_key, "generation")])
        if now is None or int(now) != generation:
            return None
        return np.unique(np.frombuffer(b"".join(rows or b"" for rows in found), layout.ROW_DTYPE))

    def _generations(self) -> tuple[int, int]:
        """The generation of the tables, and of those that are being filled; 0 for none."""
        generation, following = self.store.call("HMGET", self.meta_key, "generation", "next")
        if generation is None:
            raise CollectionError(f"the collection {self.collection!r} is gone: ingest it again")
        return int(generation), int(following)

    def _family(self, generation: int) -> HashFamily:
        if generation not in self._families:
            data = self.store.call("GET", layout.key(self.collection, "family", generation))
            if data is None:
                raise StoreError(f"the collection {self.collection!r} has lost its hash family")
            self._families[generation] = load_family(data)
        return self._families[generation]
