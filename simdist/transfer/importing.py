"""A folder that an export has written -> a collection, bit by bit the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from simdist.errors import CollectionError, SourceError, StoreError
from simdist.hashing import load_family
from simdist.index.batch import Batch
from simdist.index.collection import Collection
from simdist.index.commit import Hashed, commit_hashed
from simdist.index.growth import fit_first
from simdist.index.images import Added
from simdist.index.partition import Partition
from simdist.sources.background import ahead
from simdist.sources.files import open_file
from simdist.sources.output import OutputFolder
from simdist.sources.parquet import open_parquet
from simdist.store import Store, layout
from simdist.transfer.columns import as_records
from simdist.transfer.exporting import Piece, family_name
from simdist.transfer.manifest import Manifest
from simdist.vectors.codec import INVERSE_LENGTH, Codec, alive

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that are decoded, and sorted by their buckets, together.
_ROWS = 1 << 14
_COLUMNS = ("uri", "label", "metadata", "place", "print", "fingerprint", "scale", "values")
_MOST_FAMILY = 1 << 30
# Images that one round trip looks up.
_FOUND = 512

OnProgress = Callable[[str, int, int], None]


def import_export(
    folder: OutputFolder,
    *,
    store: Store,
    name: str,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> Added:
    """Index what an export holds: into a new collection, or beside what is there already.

    An image that is there becomes what the export says of it. Begun again after an error, it goes
    on where it stopped.

    Raises:
        SourceError: the folder cannot be read, or is no whole export.
        CollectionError: a collection of that name is of another model, or stores vectors otherwise.
        StoreError: the store was lost.
    """
    manifest = Manifest.read(folder)
    if not manifest.whole:
        raise SourceError(f"the export in {folder.uri} is not whole: export again to finish it")
    collection = Collection.create(
        store,
        name,
        model=manifest.model,
        model_id=manifest.model_id,
        dim=manifest.dim,
        dtype=manifest.dtype,
        licence=manifest.licence,
        expect=manifest.expect,
        partitions=len(manifest.partitions),
    )
    collection.require_model(manifest.model_id)
    dtype = collection.partitions[0].codec.dtype.name
    if (collection.dim, dtype) != (manifest.dim, manifest.dtype):
        raise CollectionError(
            f"the collection {name!r} stores {collection.dim:,} values of {dtype}, the export "
            f"{manifest.dim:,} of {manifest.dtype}: import it into another collection"
        )
    _fit(collection, manifest, folder)
    return write(
        collection,
        _batches(folder, manifest),
        on_progress=lambda done: on_progress("importing", done, manifest.images),
    )


def write(
    collection: Collection, batches: Iterator[Batch], *, on_progress: Callable[[int], None]
) -> Added:
    """Store batches as they are; an image that is there with all of that stays as it is."""
    was_there = collection.count() > 0
    for partition in collection.partitions:
        if partition.is_fitted():
            # The first hashing brings along a BLAS of its own, which is to be limited, too.
            partition.families.now().family.buckets(np.ones((1, collection.dim), np.float32))
    added, done = Added(0, 0, 0), 0
    # A BLAS with more threads spins between its calls: with two, writing takes twice as long.
    with threadpool_limits(limits=1, user_api="blas"):
        for some in ahead(_hashed(collection, batches, check=was_there)):
            for unchanged, hashed in some:
                results = unchanged * b"=" + (commit_hashed(hashed) if hashed else b"")
                added += Added(results.count(b"+"), results.count(b"~"), results.count(b"="))
                done += len(results)
            on_progress(done)
            collection.settle()
    return added


def _fit(collection: Collection, manifest: Manifest, folder: OutputFolder) -> None:
    """Take the hash tables of the export, where there are none yet."""
    if len(collection.partitions) != len(manifest.partitions):
        return
    for partition, exported in zip(collection.partitions, manifest.partitions, strict=True):
        if exported.fitted and not partition.is_fitted():
            data = folder.read(family_name(partition.number), limit=_MOST_FAMILY)
            family = load_family(data, dim=collection.dim)
            partition.fit(family, images=exported.fitted)


def _batches(folder: OutputFolder, manifest: Manifest) -> Iterator[Batch]:
    import pyarrow as pa

    pieces = [piece for piece in map(Piece.named, folder.names()) if piece]
    for piece in pieces:
        found = folder.found(piece.name)
        with open_file(found, folder.access) as file:
            table = open_parquet(found.uri, file)
            if missing := set(_COLUMNS) - set(table.schema_arrow.names):
                raise SourceError(f"{found.uri} has no column {min(missing)!r}")
            try:
                for rows in table.iter_batches(batch_size=_ROWS, columns=list(_COLUMNS)):
                    yield _batch(rows, found.uri, manifest)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{found.uri} is damaged: export again") from error


def _batch(rows: pa.RecordBatch, uri: str, manifest: Manifest) -> Batch:
    """A batch of rows as it is stored."""
    columns = {name: rows.column(name) for name in _COLUMNS}
    width = manifest.dim * np.dtype(manifest.dtype).itemsize
    packed = np.empty((len(rows), INVERSE_LENGTH + width), np.uint8)
    try:
        scales = columns["scale"].to_numpy().astype("<f4")
        packed[:, :INVERSE_LENGTH] = scales[:, None].view(np.uint8)
        packed[:, INVERSE_LENGTH:] = _fixed(columns["values"], width)
        fingerprints = _fingerprints(columns["fingerprint"])
        records, uris = as_records(columns)
        Codec.of(manifest.dtype, manifest.dim).check(packed)
    except (ValueError, SourceError, StoreError) as error:
        raise SourceError(f"{uri} is damaged: {error}") from error
    if not alive(packed).all():
        raise SourceError(f"{uri} is damaged: a vector has no length")
    names = b"".join(
        [hashlib.blake2b(one).digest()[: layout.PREFIX + layout.FIELD] for one in uris]
    )
    digests = np.frombuffer(names, np.uint8).reshape(len(uris), -1)
    return Batch(packed, np.hstack([digests, fingerprints]), records)


def _fingerprints(column: pa.Array) -> NDArray[np.uint8]:
    """(n, 6); an export of a simdist that stored eight bytes of each has them all."""
    width = max(layout.FINGERPRINT, column.type.byte_width)
    return _fixed(column, width)[:, : layout.FINGERPRINT]


def _fixed(column: pa.Array, width: int) -> NDArray[np.uint8]:
    """A column of so many bytes each -> (n, width)."""
    if column.type.byte_width != width or column.null_count:
        raise ValueError(f"a value has not {width:,} bytes")
    data = np.frombuffer(column.buffers()[1], np.uint8)
    return data[column.offset * width : (column.offset + len(column)) * width].reshape(-1, width)


def _hashed(
    collection: Collection, batches: Iterable[Batch], *, check: bool
) -> Iterator[list[tuple[int, Hashed | None]]]:
    """For each batch, by partitions, how many are there as they are, and the others."""
    for batch in batches:
        hashed: list[tuple[int, Hashed | None]] = []
        for partition, some in _spread(collection, batch):
            wanted = some
            if check:
                wanted = _chosen(some, np.flatnonzero(~_stored(partition, some)))
            if len(wanted) and not partition.is_fitted():
                restored = partition.codec.restore(wanted.packed)
                vectors = partition.codec.turned_back(restored)
                fit_first(partition, vectors, expect=collection.expected_each)
            made = Hashed.of(partition, wanted) if len(wanted) else None
            hashed.append((len(some) - len(wanted), made))
        yield hashed


def _stored(partition: Partition, batch: Batch) -> NDArray[np.bool_]:
    """(n,) which are stored with the same vector, record and fingerprint."""
    same = []
    size = layout.PREFIX + layout.FIELD
    for start in range(0, len(batch), _FOUND):
        some = slice(start, start + _FOUND)
        digests = [digest.tobytes() for digest in batch.digests[some]]
        found = partition.find_many([digest[:size] for digest in digests])
        rows = zip(found, batch.packed[some], batch.records[some], digests, strict=True)
        same += [
            one is not None
            and one.record == record
            and one.fingerprint == digest[size:]
            and np.array_equal(one.vector, packed)
            for one, packed, record, digest in rows
        ]
    return np.array(same, np.bool_)


def _spread(collection: Collection, batch: Batch) -> Iterator[tuple[Partition, Batch]]:
    count = len(collection.partitions)
    ends = batch.digests[:, layout.PREFIX + layout.FIELD - 4 : layout.PREFIX + layout.FIELD]
    numbers = np.ascontiguousarray(ends).view("<u4").ravel() % count
    for number in np.unique(numbers).tolist():
        members = np.flatnonzero(numbers == number)
        yield collection.partitions[number], _chosen(batch, members)


def _chosen(batch: Batch, members: NDArray[np.intp]) -> Batch:
    if len(members) == len(batch.records):
        return batch
    records = [batch.records[i] for i in members.tolist()]
    return Batch(batch.packed[members], batch.digests[members], records)
