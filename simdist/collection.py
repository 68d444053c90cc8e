"""A collection of images in Redis: create, open, add, look up, delete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, ModelMismatchError, UsageError
from simdist.hashing import KMeansFamily
from simdist.rehash import grow
from simdist.sources.reference import ImageRef
from simdist.store import Store, layout
from simdist.store.connection import Argument
from simdist.tables import HashTables
from simdist.vectors import checked, normalised

if TYPE_CHECKING:
    from simdist.embedding import Model

# Embeddings that a new collection's first hash family is fitted on, where there are as many. Few,
# so that little is held back uncommitted: the tables are rebuilt as the collection grows.
FIT_SAMPLE = 256
# Images committed by one call of the server-side script: a stall of a few milliseconds.
COMMIT_BATCH = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Added:
    """What became of a batch: how many images were added, replaced, or there already."""

    added: int
    replaced: int
    unchanged: int


@dataclass(frozen=True)
class Collection:
    """The images of one collection: their embeddings in hash tables that all processes share.

    >>> with simdist.open_store(simdist.Settings.resolve()) as store:
    ...     collection = simdist.Collection.open(store, "images")
    ...     hits = simdist.Searcher(collection).search(vector, n=5)

    Attributes:
        name: letters, digits, '.', '_' and '-', at most 64.
        model_id: which model made the embeddings; others are refused.
        dim: length of an embedding.
        tables: its hash tables.
    """

    store: Store
    name: str
    model: str
    model_id: str
    dim: int
    tables: HashTables

    @classmethod
    def open(cls, store: Store, name: str) -> Collection:
        """Open a collection that exists.

        Raises:
            CollectionError: there is none of that name, or a newer simdist made it.
        """
        meta = store.call("HGETALL", layout.meta_key(_checked_name(name)))
        if not meta:
            raise CollectionError(_missing(store, name))
        return cls._from_meta(store, name, meta)

    @classmethod
    def ensure(cls, store: Store, name: str, *, model: Model) -> Collection:
        """Open a collection, or create it for a model's embeddings.

        Raises:
            ModelMismatchError: it exists, and another model made its embeddings.
        """
        collection = cls.create(store, name, model=model.backbone, model_id=model.id, dim=model.dim)
        collection.require_model(model.id)
        return collection

    @classmethod
    def create(
        cls, store: Store, name: str, *, model: str, model_id: str, dim: int, dtype: str = "int8"
    ) -> Collection:
        """Create a collection unless there is one of that name already; return it either way."""
        fields: dict[str, Argument] = {
            "version": layout.VERSION,
            "model": model,
            "model_id": model_id,
            "dim": dim,
            "dtype": dtype,
        }
        arguments: list[Argument] = [part for pair in fields.items() for part in pair]
        reply = store.run("create", [layout.meta_key(_checked_name(name))], arguments)
        store.call("SADD", layout.COLLECTIONS, name)
        return cls._from_meta(store, name, dict(zip(reply[::2], reply[1::2], strict=True)))

    @classmethod
    def _from_meta(cls, store: Store, name: str, meta: Mapping[bytes, bytes]) -> Collection:
        version = int(meta[b"version"])
        if version != layout.VERSION:
            raise CollectionError(
                f"the collection {name!r} has layout version {version}, this simdist reads "
                f"{layout.VERSION}: use the simdist that made it, or ingest into another collection"
            )
        dim = int(meta[b"dim"])
        return cls(
            store=store,
            name=name,
            model=meta[b"model"].decode(),
            model_id=meta[b"model_id"].decode(),
            dim=dim,
            tables=HashTables(store, name, dim, np.dtype(meta[b"dtype"].decode())),
        )

    def require_model(self, model_id: str) -> None:
        """Check that embeddings of a model belong here.

        Raises:
            ModelMismatchError: they do not; the message names both models.
        """
        if model_id != self.model_id:
            raise ModelMismatchError(
                f"the collection {self.name!r} was made with the model {self.model_id}, not with "
                f"{model_id}: use that model, or another collection (--collection NAME)"
            )

    @property
    def fitted(self) -> bool:
        """Whether it has hash tables: from the first `add` on."""
        return self.tables.fitted

    def known(self, refs: Sequence[ImageRef]) -> NDArray[np.bool_]:
        """Which images are indexed with the content that their fingerprints stand for.

        Returns:
            (len(refs),) bool; one round trip.
        """
        digests = b"".join(layout.digests(ref.uri, ref.fingerprint) for ref in refs)
        answer = self.store.run("known", [self.tables.meta_key], [digests])
        flags: NDArray[np.bool_] = np.frombuffer(answer, dtype=np.uint8) == ord("1")
        return flags

    def add(
        self,
        vectors: NDArray[np.float32],
        refs: Sequence[ImageRef],
        *,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> Added:
        """Index images. Adding the same images again changes nothing.

        An image whose URI is known with another fingerprint is replaced. The images are committed
        in batches of `COMMIT_BATCH`, each whole or not at all. The first call fits the hash
        family on its vectors; later ones rebuild the tables when the collection has outgrown them.

        Args:
            vectors: (n, dim) float32.
            refs: what each vector is the embedding of.
            metadata: JSON objects to keep with the images.

        Raises:
            VectorError: vectors of a wrong shape, not finite or of length zero; nothing is written.
        """
        vectors = checked(vectors, dim=self.dim)
        if len(vectors) != len(refs):
            raise UsageError(f"{len(vectors)} vectors for {len(refs)} images")
        if len(vectors) and not self.fitted:
            self.tables.fit(KMeansFamily.fit(normalised(vectors)), images=len(vectors))
        results = b""
        for start in range(0, len(refs), COMMIT_BATCH):
            batch = slice(start, start + COMMIT_BATCH)
            extra = metadata[batch] if metadata else [{}] * len(refs[batch])
            results += self.tables.commit(vectors[batch], refs[batch], extra)
        if b"+" in results:
            grow(self.tables)
        return Added(results.count(b"+"), results.count(b"~"), results.count(b"="))

    def delete(self, uris: Iterable[str]) -> int:
        """Delete images by URI; unknown ones are passed over. Returns how many there were."""
        digests = b"".join(layout.uri_digest(uri) for uri in uris)
        return int(self.store.run("delete", [self.tables.meta_key], [digests]))

    def get(self, uri: str) -> layout.Record | None:
        """What is stored of one image, or None if it is not indexed."""
        digest = layout.uri_digest(uri)
        entry = self.store.call("HGET", layout.uri_key(self.name, digest), digest[2:])
        if entry is None:
            return None
        row = int(np.frombuffer(entry, layout.ROW_DTYPE, 1)[0])
        packed = self.tables.records([row])[0]
        # None here: deleted between the two calls.
        return self.tables.unpack(packed) if packed is not None else None


def list_collections(store: Store) -> list[str]:
    """The names of all collections, sorted."""
    return sorted(name.decode() for name in store.call("SMEMBERS", layout.COLLECTIONS))


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def _missing(store: Store, name: str) -> str:
    others = list_collections(store)
    known = f"there are: {', '.join(others)}" if others else "there are none yet"
    return (
        f"there is no collection {name!r} ({known}); make one with "
        f"'simdist ingest FOLDER --collection {name}'"
    )
