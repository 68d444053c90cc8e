"""A collection -> a folder of Parquet files, as it was at one moment."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError, UsageError
from simdist.hashing import dump_family
from simdist.index.collection import Collection
from simdist.index.moments import Moment, Part, Passage
from simdist.index.partition import Partition
from simdist.sources import Access
from simdist.sources.files import open_file
from simdist.sources.output import OutputFolder
from simdist.transfer import manifest as manifests
from simdist.transfer.columns import as_columns
from simdist.transfer.manifest import ExportedPartition, Manifest
from simdist.vectors.codec import INVERSE_LENGTH

if TYPE_CHECKING:
    import pyarrow as pa

# Images in a file; and bytes of vectors, where those are long.
FILE_ROWS, FILE_BYTES = 1 << 16, 1 << 26

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Piece:
    """A file of an export: images of a partition with rows from `first` on, before `end`."""

    partition: int
    first: int
    end: int

    @property
    def name(self) -> str:
        """The file's."""
        return f"images-{self.partition:05}-{self.first:010}-{self.end:010}.parquet"

    @classmethod
    def named(cls, name: str) -> Piece | None:
        """The one of this name."""
        match = re.fullmatch(r"images-([0-9]{5})-([0-9]{10})-([0-9]{10})\.parquet", name)
        return cls(*map(int, match.groups())) if match else None


def family_name(partition: int) -> str:
    """The file with a partition's hash family."""
    return f"family-{partition:05}"


def export(
    collection: Collection,
    location: str,
    *,
    access: Access | None = None,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> Manifest:
    """Write all images of a collection into a folder: vectors as stored, and all that is kept.

    Each partition is written as it was at one moment, which the manifest states, while the
    collection is used. Begun again after an error, it goes on where it stopped; or anew, if Redis
    has lost what was exported.

    Args:
        location: a folder, or a prefix in an object store.

    Raises:
        UsageError: the folder holds something else.
        OutputError: it cannot be written.
        StoreError, CollectionError: Redis cannot be reached, or has lost what was exported.
    """
    folder = OutputFolder.of(location, access or Access.resolve())
    pieces = _begun(collection, folder)
    total, done, images = collection.count(), 0, 0
    written: list[ExportedPartition] = []
    for partition in collection.partitions:
        there = [piece for piece in pieces if piece.partition == partition.number]
        passage = Passage(partition, first=max((piece.end for piece in there), default=0))
        for piece, parts in _pieces(partition, passage):
            table = _table(parts, partition)
            folder.put(piece.name, _as_file(table))
            there.append(piece)
            done += len(table)
            on_progress("exporting", done, max(total, done))
        images += sum(_settle(folder, piece, passage.moment) for piece in there)
        written.append(_family(partition, folder, passage.moment))
    manifest = replace(_manifest(collection), partitions=tuple(written), images=images, whole=True)
    manifest.write(folder)
    return manifest


def _begun(collection: Collection, folder: OutputFolder) -> list[Piece]:
    """The files of this export that are there; what is begun says so first.

    Raises:
        UsageError: there is something else.
    """
    names, manifest = folder.names(), _manifest(collection)
    if not names:
        manifest.write(folder)
        return []
    if manifests.NAME not in names:
        raise UsageError(f"{folder.uri} is not empty, and holds no export: name another folder")
    before = Manifest.read(folder)
    if before.whole:
        raise UsageError(f"{folder.uri} holds a whole export already: name another folder")
    if [one.born for one in before.partitions] != [one.born for one in manifest.partitions]:
        raise UsageError(f"{folder.uri} holds a part of another collection: name another folder")
    there = {(piece.partition, piece.first): piece for piece in map(Piece.named, names) if piece}
    if not _remembers(collection, before):
        # What is in the files may never have been: all anew.
        for outdated in there.values():
            folder.remove(outdated.name)
        _manifest(collection).write(folder)
        return []
    pieces: list[Piece] = []
    for number in range(len(collection.partitions)):
        at = 0
        while piece := there.pop((number, at), None):
            pieces.append(piece)
            at = piece.end
    # Behind a gap, that somebody made.
    for piece in there.values():
        folder.remove(piece.name)
    return pieces


def _remembers(collection: Collection, before: Manifest) -> bool:
    """Whether Redis has all that was there when an export was begun."""
    for partition, one in zip(collection.partitions, before.partitions, strict=True):
        partition.history.remember(bytes.fromhex(one.moment))
    if all(partition.history.holds() for partition in collection.partitions):
        return True
    for partition in collection.partitions:
        partition.history.remember(b"")
    return False


def _manifest(collection: Collection) -> Manifest:
    """What is known before anything is exported."""
    first = collection.partitions[0]
    partitions = []
    for partition in collection.partitions:
        partition.history.check()
        seen = partition.history.seen
        partitions.append(ExportedPartition(seen.born.hex(), seen.moment.hex()))
    return Manifest(
        collection=collection.name,
        model=collection.model,
        model_id=collection.model_id,
        dim=collection.dim,
        dtype=first.codec.dtype.name,
        expect=collection.expect,
        uri_bits=first.uri_bits,
        partitions=tuple(partitions),
        licence=collection.licence,
    )


def _family(partition: Partition, folder: OutputFolder, moment: Moment) -> ExportedPartition:
    """Write the hash family in use, so that an import need not fit one."""
    seen, fitted = partition.history.seen, 0
    if partition.is_fitted():
        folder.put(family_name(partition.number), dump_family(partition.families.now().family))
        fitted = partition.state().fitted
    return ExportedPartition(seen.born.hex(), seen.moment.hex(), moment.epoch, fitted)


def _pieces(partition: Partition, passage: Passage) -> Iterator[tuple[Piece, list[Part]]]:
    """What belongs into each file."""
    most = max(1, min(FILE_ROWS, FILE_BYTES // partition.codec.width))
    held: list[Part] = []
    first = end = passage.first
    for part in passage.parts():
        held.append(part)
        end = part.end
        if sum(len(one.rows) for one in held) >= most:
            yield Piece(partition.number, first, end), held
            held, first = [], end
    if held:
        yield Piece(partition.number, first, end), held


def _table(parts: list[Part], partition: Partition) -> pa.Table:
    import pyarrow as pa

    packed = np.concatenate([part.packed for part in parts])
    records = [record for part in parts for record in part.records]
    scales = np.ascontiguousarray(packed[:, :INVERSE_LENGTH]).view("<f4").ravel()
    columns = {
        "row": pa.array(np.concatenate([part.rows for part in parts])),
        **as_columns(records),
        "fingerprint": _fixed(np.concatenate([part.fingerprints for part in parts])),
        "scale": pa.array(scales),
        "values": _fixed(packed[:, INVERSE_LENGTH:]),
    }
    return pa.table(columns)


def _fixed(rows: NDArray[np.uint8]) -> pa.Array:
    """(n, k) bytes as a column of k bytes each."""
    import pyarrow as pa

    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, buffer])


def _as_file(table: pa.Table) -> bytes:
    from pyarrow import parquet

    file = io.BytesIO()
    texts = ("uri", "label", "metadata", "place", "row")
    # Values are nearly random: compressing them costs time and gains nothing.
    parquet.write_table(
        table, file, use_dictionary=["label"], compression=dict.fromkeys(texts, "zstd")
    )
    return file.getvalue()


def _settle(folder: OutputFolder, piece: Piece, moment: Moment) -> int:
    """Leave in a file what was there at the moment; returns how many images that are."""
    from pyarrow import ArrowException, parquet

    alive = moment.alive[piece.first : piece.end]
    found = folder.found(piece.name)
    try:
        with open_file(found, folder.access) as file:
            table = parquet.ParquetFile(file)
            if table.metadata.num_rows == alive.sum():
                return int(alive.sum())
            read = table.read()
    except (ArrowException, OSError) as error:
        raise SourceError(f"{found.uri} is damaged: remove it, and export again") from error
    kept = read.filter(moment.alive[read["row"].to_numpy()])
    if len(kept) != alive.sum():
        raise SourceError(f"{found.uri} is damaged: remove it, and export again")
    folder.put(piece.name, _as_file(kept))
    return len(kept)
