"""Embeddings that somebody else has made -> a collection, whatever form they are in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from simdist.errors import SourceError, UsageError
from simdist.index.batch import Batch
from simdist.index.collection import Collection
from simdist.index.commit import packed
from simdist.index.images import Added
from simdist.index.rehash import LSHASH_MODEL
from simdist.settings import DEFAULT_EXPECT
from simdist.sources import Access, local_path, objects
from simdist.sources.output import OutputFolder
from simdist.store import Store
from simdist.transfer import manifest as manifests
from simdist.transfer.faiss_files import read_faiss
from simdist.transfer.foreign import (
    Vectors,
    is_clip_retrieval,
    read_array,
    read_clip_retrieval,
    read_lshash3,
    read_lshash3_redis,
    read_uris,
)
from simdist.transfer.importing import import_export, write
from simdist.vectors.checks import checked, usable

_SERVERS = ("redis://", "rediss://", "unix://")
_FAISS = (".faiss", ".index")

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Imported:
    """What an import did; `unusable` vectors are not finite, or of length zero."""

    added: Added
    unusable: int = 0


def import_embeddings(
    location: str,
    *,
    store: Store,
    name: str,
    model: str | None = None,
    uris: Path | None = None,
    expect: int = DEFAULT_EXPECT,
    partitions: int = 1,
    access: Access | None = None,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> Imported:
    """Index the embeddings in a place, without any image.

    Begun again after an error, it goes on where it stopped.

    Args:
        location: a folder that `export` has written, here or in an object store; a `.npy` file; a
            flat index of FAISS; a folder of clip-retrieval; lshash3's Redis, by its URL, or a JSON
            file of its tables.
        model: what made them; an export and lshash3 say it themselves.
        uris: a file of the URIs of the images, one a line, for an array or FAISS.
        expect, partitions: of a new collection, see `Collection.create`.

    Raises:
        UsageError: it is none of these, or something that it needs is not said.
        SourceError: it cannot be read.
        CollectionError: a collection of that name is of another model.
        StoreError: the store was lost.
    """
    folder = None
    if not location.startswith(_SERVERS):
        folder = OutputFolder.of(location, access or Access.resolve())
    if folder and (objects.is_object(location) or local_path(location).is_dir()):
        if manifests.NAME in folder.names():
            found = import_export(folder, store=store, name=name, on_progress=on_progress)
            return Imported(found)
        if objects.is_object(location):
            raise UsageError(f"{location} holds no export: other embeddings are read from files")
    batches, made_by = _batches(location, uris)
    if made_by is None and model is None:
        raise UsageError(f"{location} does not say which model made its embeddings: name it")
    return _import(
        batches,
        store=store,
        name=name,
        model=model or made_by or "",
        dtype="float32" if made_by == LSHASH_MODEL else "int8",
        expect=expect,
        partitions=partitions,
        on_progress=on_progress,
    )


def _batches(location: str, uris: Path | None) -> tuple[Iterator[Vectors], str | None]:
    """What is there, and the model that made it, if it says so."""
    if location.startswith(_SERVERS):
        return read_lshash3_redis(location), LSHASH_MODEL
    path = local_path(location)
    if not path.exists():
        raise SourceError(f"there is no {path}")
    names = read_uris(uris) if uris else None
    if path.is_dir() and is_clip_retrieval(path):
        return read_clip_retrieval(path), None
    if path.is_dir() and any(path.glob("*_stats.json")):
        raise UsageError(
            f"{path} holds images of img2dataset, not embeddings: ingest its files by a pattern, "
            "such as folder/*.tar"
        )
    if path.suffix == ".npy":
        return read_array(path, names), None
    if path.suffix in _FAISS:
        return read_faiss(path, names), None
    if path.suffix == ".json":
        return read_lshash3(path), LSHASH_MODEL
    raise UsageError(
        f"{path} is neither an export, nor clip-retrieval's folder, nor a file that ends in .npy, "
        f"{', '.join(_FAISS)} or .json; Parquet files of embeddings are ingested"
    )


def _import(
    batches: Iterator[Vectors],
    *,
    store: Store,
    name: str,
    model: str,
    dtype: str,
    expect: int,
    partitions: int,
    on_progress: OnProgress,
) -> Imported:
    first = next(batches, None)
    if first is None:
        raise SourceError("there are no embeddings in it")
    dim = first.vectors.shape[1]
    collection = Collection.create(
        store,
        name,
        model=model,
        model_id=model,
        dim=dim,
        dtype=dtype,
        expect=expect,
        partitions=partitions,
    )
    collection.require_model(model)
    unusable = 0

    def packed_batches() -> Iterator[Batch]:
        nonlocal unusable
        codec = collection.partitions[0].codec
        for batch in chain([first], batches):
            if batch.vectors.shape[1] != dim:
                raise SourceError(f"some vectors have {dim:,} numbers, others do not")
            good = usable(batch.vectors)
            good &= [ref.flaw() is None for ref in batch.refs]
            members = np.flatnonzero(good)
            unusable += len(good) - len(members)
            vectors = packed(codec, checked(batch.vectors[members], dim=dim))
            yield Batch.pack(vectors, [batch.refs[i] for i in members.tolist()])

    added = write(
        collection, packed_batches(), on_progress=lambda done: on_progress("importing", done, 0)
    )
    return Imported(added, unusable)
