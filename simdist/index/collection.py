"""A collection of images in Redis: create, open, add, look up, delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.errors import ModelMismatchError, Remedy, UsageError
from simdist.index import catalogue
from simdist.index.commit import commit
from simdist.index.growth import LEASE_SECONDS, fit_first, grow
from simdist.index.history import recognise_all
from simdist.index.images import Added, IndexedImage, Version
from simdist.index.iteration import all_images
from simdist.index.partition import Partition
from simdist.index.tuning import retune
from simdist.settings import DEFAULT_EXPECT
from simdist.sources.reference import ImageRef
from simdist.store import Store, layout
from simdist.vectors.checks import checked
from simdist.vectors.codec import Codec

if TYPE_CHECKING:
    from simdist.embedding import Model

# Embeddings that a new collection's first hash family is fitted on, where there are as many. Few,
# so that little is held back uncommitted: the tables are rebuilt as the collection grows.
FIT_SAMPLE = 256


@dataclass(frozen=True)
class Collection:
    """The images of one collection: their embeddings in hash tables that all processes share.

    >>> with simdist.open_store(simdist.Settings.resolve()) as store:
    ...     collection = simdist.Collection.open(store, "images")
    ...     hits = simdist.Searcher(collection).search(vector, n=5)
    ...     print(len(collection), len(hits))
    3 3

    Attributes:
        name: letters, digits, '.', '_' and '-', at most 64; or an alias.
        model_id: which model made the embeddings; others are refused.
        dim: length of an embedding.
        expect: images that it is to hold, roughly.
        partitions: its hash tables; an image belongs to the partition of its URI's digest.
        home_name: what its keys are called by, whatever it is called itself (`names`).
        licence: of the model's weights; empty where nobody says.
    """

    store: Store
    name: str
    model: str
    model_id: str
    dim: int
    expect: int
    partitions: tuple[Partition, ...]
    home_name: str = ""
    licence: str = ""

    @classmethod
    def open(cls, store: Store, name: str) -> Collection:
        """Open a collection that exists.

        Raises:
            CollectionError: there is none of that name, or a newer simdist made it.
        """
        return cls.of(store, name, *catalogue.find(store, name))

    @classmethod
    def ensure(
        cls,
        store: Store,
        name: str,
        *,
        model: Model,
        expect: int = DEFAULT_EXPECT,
        partitions: int = 1,
    ) -> Collection:
        """Open a collection, or create it for a model's embeddings, as `create` does.

        Raises:
            ModelMismatchError: it exists, and another model made its embeddings.
        """
        collection = cls.create(
            store,
            name,
            model=model.source or model.backbone,
            model_id=model.id,
            dim=model.dim,
            licence=model.licence,
            expect=expect,
            partitions=partitions,
        )
        collection.require_model(model.id)
        return collection

    @classmethod
    def create(
        cls,
        store: Store,
        name: str,
        *,
        model: str,
        model_id: str,
        dim: int,
        dtype: str = "int8",
        licence: str = "",
        expect: int = DEFAULT_EXPECT,
        partitions: int = 1,
    ) -> Collection:
        """Create a collection unless there is one of that name already; return it either way.

        Args:
            model: name of the model that makes the embeddings; `model_id` says exactly which.
            dim: length of an embedding.
            dtype: how they are stored, "int8" or "float32".
            licence: of the model's weights, to be shown.
            expect: images that it is to hold, roughly: the size of its hash tables follows from
                it once there are enough to fit them on; for many more it takes more memory.
            partitions: parts that a Redis Cluster may keep on different nodes.
        """
        entry = catalogue.Entry(
            model=model,
            model_id=model_id,
            dim=dim,
            dtype=dtype,
            expect=expect,
            partitions=partitions,
            uri_bits=layout.uri_bits(expect // max(1, partitions)),
            licence=licence,
        )
        return cls.of(store, name, *catalogue.ensure(store, name, entry))

    @classmethod
    def of(cls, store: Store, name: str, home: str, entry: catalogue.Entry) -> Collection:
        """The collection at a home, for which `entry` says what it is made for; one round trip."""
        codec = Codec.of(entry.dtype, entry.dim)
        partitions = tuple(
            Partition(store, name, number, codec=codec, uri_bits=entry.uri_bits, home=home)
            for number in range(entry.partitions)
        )
        recognise_all(store, [partition.history for partition in partitions], entry.born)
        return cls(
            store=store,
            name=name,
            model=entry.model,
            model_id=entry.model_id,
            dim=entry.dim,
            expect=entry.expect,
            partitions=partitions,
            home_name=home,
            licence=entry.licence,
        )

    def require_model(self, model_id: str) -> None:
        """Check that embeddings of a model belong here.

        Raises:
            ModelMismatchError: they do not; the message names both models.
        """
        if model_id != self.model_id:
            raise ModelMismatchError(
                f"the collection {self.name!r} was made with the model {self.model_id}, not with "
                f"{model_id}: use that model, or another collection",
                remedy=Remedy.COLLECTION,
            )

    def is_fitted(self) -> bool:
        """Whether the collection has hash tables: from the first `add` on."""
        return any(partition.is_fitted() for partition in self.partitions)

    def count(self) -> int:
        """Images that are indexed now; a round trip for each partition."""
        return sum(partition.state().live for partition in self.partitions)

    def __len__(self) -> int:
        """As `count`."""
        return self.count()

    def __bool__(self) -> bool:
        """Always true: an empty collection is one, too."""
        return True

    def __contains__(self, uri: object) -> bool:
        """Whether an image is indexed, by its URI."""
        digest = layout.uri_digest(uri) if isinstance(uri, str) else None
        return digest is not None and self.home(digest).find(digest) is not None

    def images(self) -> Iterator[IndexedImage]:
        """All images, in batches of a few thousand a round trip, in no order that means anything.

        Of one that is added, deleted or replaced meanwhile, see `iteration.all_images`.
        """
        return chain.from_iterable(map(all_images, self.partitions))

    def check_history(self) -> None:
        """Raise a `StoreError` if Redis has lost what `known`, `add` and `delete` have seen."""
        for partition in self.partitions:
            partition.history.check()

    def warm(self) -> None:
        """Load the compiled loops that the first `add` would wait for, a second or so."""
        self.partitions[0].codec.turned(np.zeros((1, self.dim), np.float32))

    def known(self, refs: Sequence[ImageRef]) -> NDArray[np.bool_]:
        """(len(refs),) bool: which are indexed with the content of their fingerprints."""
        same: NDArray[np.bool_] = self.versions(refs) == Version.SAME
        return same

    def versions(self, refs: Sequence[ImageRef]) -> NDArray[np.uint8]:
        """(len(refs),) `Version`: what there is of each; one round trip a partition."""
        flags = np.zeros(len(refs), np.uint8)
        for partition, members in self.spread([ref.uri for ref in refs]):
            there = [refs[i] for i in members]
            uris = [ref.uri.encode() for ref in there]
            fingerprints = [ref.fingerprint for ref in there]
            flags[members] = partition.versions(layout.digests(uris, fingerprints))
        return flags

    def add(
        self,
        vectors: NDArray[np.float32],
        refs: Sequence[ImageRef],
        *,
        replicas: int = 0,
        force: bool = False,
    ) -> Added:
        """Index images. Adding the same images again changes nothing.

        An image whose URI is known with another fingerprint is replaced. The images are committed
        in batches (`batch.COMMIT_BATCH`), each whole or not at all. The first call fits the hash
        family on its vectors; later ones rebuild the tables when the collection has outgrown them.

        Args:
            vectors: (n, dim) float32.
            refs: what each vector is the embedding of; their labels and metadata are kept.
            replicas: how many replicas of the server must have each batch before the next is sent.
            force: replace also what is known with the same fingerprint.

        Raises:
            StoreError: too few replicas confirm in time: the batch is written, but on fewer; or the
                server drops keys when its memory is full, and nothing is written.
            VectorError: vectors of a wrong shape, not finite or of length zero; nothing is written.
            UsageError: as many images as vectors are needed, or what one of them is called cannot
                be stored (`ImageRef.flaw`); nothing is written.
        """
        self.store.keeping.require_memory()
        vectors = checked(vectors, dim=self.dim)
        if len(vectors) != len(refs):
            raise UsageError(f"{len(vectors)} vectors for {len(refs)} images")
        for ref in refs:
            if flaw := ref.flaw():
                raise UsageError(f"{ref.uri[:100]} cannot be stored: {flaw}")
        results = b""
        for partition, members in self.spread([ref.uri for ref in refs]):
            its_vectors, its_refs = vectors, refs
            if len(members) < len(refs):
                its_vectors, its_refs = vectors[members], [refs[i] for i in members]
            if not partition.is_fitted():
                fit_first(partition, its_vectors, expect=self.expected_each)
            written = commit(partition, its_vectors, its_refs, replicas=replicas, force=force)
            if written.strip(b"="):
                self._grow(partition)
            results += written
        return Added(results.count(b"+"), results.count(b"~"), results.count(b"="))

    def settle(self) -> None:
        """Rebuild tables that are outgrown still: whoever was about to may have died."""
        for partition in self.partitions:
            if partition.is_fitted():
                self._grow(partition, patience=LEASE_SECONDS)

    def _grow(self, partition: Partition, *, patience: float = 0.0) -> None:
        ready = partial(retune, self.partitions)
        grow(partition, expect=self.expected_each, before_switch=ready, patience=patience)

    @property
    def expected_each(self) -> int:
        """Images that a partition is to hold."""
        return self.expect // len(self.partitions)

    def delete(self, uris: Iterable[str]) -> int:
        """Delete images by URI; unknown ones are passed over. Returns how many there were."""
        given = list(uris)
        return sum(
            partition.delete([layout.uri_digest(given[i]) for i in members]).count(b"-")
            for partition, members in self.spread(given)
        )

    def get(self, uri: str) -> IndexedImage | None:
        """What is stored of one image, or None if it is not indexed."""
        return self.get_by_digest(layout.uri_digest(uri))

    def get_by_digest(self, digest: bytes) -> IndexedImage | None:
        """As `get`, by `layout.uri_digest`."""
        partition = self.home(digest)
        if (stored := partition.find(digest)) is None:
            return None
        record, codec = layout.unpack_record(stored[1]), partition.codec
        [vector] = codec.turned_back(codec.restore(stored[0][None]))
        return IndexedImage(record.uri, record.label, record.metadata, vector)

    def home(self, digest: bytes) -> Partition:
        """The partition of an image by `layout.uri_digest`."""
        return self.partitions[layout.partition_of(digest, len(self.partitions))]

    def spread(self, uris: Sequence[str]) -> Iterator[tuple[Partition, NDArray[np.intp]]]:
        """The partitions that URIs belong to, each with the indices of its own, in order."""
        numbers, count = np.zeros(len(uris), np.intp), len(self.partitions)
        if count > 1:
            numbers[:] = [layout.partition_of(layout.uri_digest(uri), count) for uri in uris]
        for number in np.unique(numbers):
            yield self.partitions[number], np.flatnonzero(numbers == number)
