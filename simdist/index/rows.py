"""All rows of a partition, looked at one by one: which are images that can be read, and found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.index.partition import Partition
from simdist.store import layout
from simdist.vectors.codes import Codes

# Blocks that one round trip reads; hashes of URIs, at the most, and about how many entries in all;
# entries of each hash.
_BLOCKS, _HASHES, _ENTRIES, _SCANNED = 32, 1 << 12, 1 << 17, 1000
# Its vectors and its records are read one after the other: somebody may write in between.
_TRIES = 3
# How far the length of a stored vector may be from what is stored as its inverse.
_TOLERANCE = 1e-4

OnRows = Callable[[int], None]


class Kind(IntEnum):
    """What a row is: never written, an image, deleted, or none of these."""

    EMPTY = 0
    ALIVE = 1
    DEAD = 2
    BAD = 3


@dataclass(frozen=True)
class Damage:
    """Something that is not as simdist writes it: its key (or a pattern of keys), and what."""

    key: str
    what: str


@dataclass(frozen=True)
class Rows:
    """What the rows of a partition are.

    Attributes:
        kinds: (n,) uint8, a `Kind` for each.
        digests: (n, 14) uint8, of the URIs of images.
        found: (n,) bool, images to which an entry leads.
        broken: blocks whose images cannot be told from each other.
        strays: entries that lead to no image: the hash, and the field.
        ends: numbers of rows that are above n, for some were added, or n is wrong.
        damages: what is wrong with blocks and entries.
    """

    kinds: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    found: NDArray[np.bool_]
    broken: list[int] = field(default_factory=list)
    strays: list[tuple[int, bytes]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)


def read_rows(
    partition: Partition, count: int, *, partitions: int, on_rows: OnRows = lambda _: None
) -> Rows:
    """Look at the first rows of a partition, and at all entries.

    Writes may go on: a row that ends meanwhile is an image, perhaps without entry, or deleted.

    Args:
        partitions: how many the collection has.
    """
    rows = Rows(
        np.zeros(count, np.uint8),
        np.zeros((count, layout.PREFIX + layout.FIELD), np.uint8),
        np.zeros(count, np.bool_),
    )
    blocks = -(-count // layout.BLOCK)
    for start in range(0, blocks, _BLOCKS):
        numbers = range(start, min(start + _BLOCKS, blocks))
        for number, stored in zip(numbers, _read_blocks(partition, numbers), strict=True):
            block, tries = _judged(partition, stored, partitions), _TRIES
            while block.is_suspicious(count - number * layout.BLOCK) and tries:
                [again] = _read_blocks(partition, [number])
                block, tries = _judged(partition, again, partitions), tries - 1
            _note_block(rows, partition, number, block)
        on_rows(min(numbers.stop * layout.BLOCK, count))
    hashes = 1 << partition.uri_bits
    step = min(_HASHES, max(1, _ENTRIES * hashes // max(1, count)))
    for first in range(0, hashes, step):
        for part in _entries(partition, range(first, min(first + step, hashes))):
            _note_entries(rows, partition, part)
    return rows


_Stored = tuple[bytes | None, bytes | None]
# What nothing can be made of.
_BROKEN: _Stored = (b"\0", None)


def _read_blocks(partition: Partition, numbers: Sequence[int]) -> list[_Stored]:
    """The vectors and the records of blocks, wherever they are.

    Raises:
        SourceError: a file cannot be read: nothing can be said of the images in it.
    """
    try:
        stored = partition.blocks.stored(numbers)
    except StoreError:
        # One does not say where it is.
        if len(numbers) > 1:
            return [block for number in numbers for block in _read_blocks(partition, [number])]
        return [_BROKEN]
    bits = partition.files.bits()
    if bits:
        codes, full = Codes.of(partition.codec, bits), layout.BLOCK * partition.codec.width
        here = partition.store.call_many([("GET", partition.keys.vectors(n)) for n in numbers])
        for i, (coded, (vectors, _)) in enumerate(zip(here, stored, strict=True)):
            # What a search goes by must be that of what is in the file.
            if coded and vectors and len(coded) != full == len(vectors):
                packed = partition.codec.matrix(vectors)
                stored[i] = stored[i] if codes.pack(packed).tobytes() == coded else _BROKEN
    return stored


@dataclass(frozen=True)
class _Block:
    """What the 60 rows of a block are.

    Attributes:
        bad_vectors: (60,) bool: their vectors are wrong.
        broken: which of its two strings is wrong as a whole, "" for none.
        gone: there is nothing of it, for all of its rows were deleted.
    """

    kinds: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    bad_vectors: NDArray[np.bool_]
    broken: str = ""
    gone: bool = False

    def is_suspicious(self, used: int) -> bool:
        """Whether something is wrong with it, of which so many rows are used."""
        here = self.kinds[: min(used, layout.BLOCK)]
        return bool(self.broken) or (self.gone and used < layout.BLOCK) or (here == Kind.BAD).any()


def _judged(partition: Partition, stored: _Stored, partitions: int) -> _Block:
    vectors, records = stored
    kinds = np.full(layout.BLOCK, Kind.BAD, np.uint8)
    digests = np.zeros((layout.BLOCK, layout.PREFIX + layout.FIELD), np.uint8)
    block = _Block(kinds, digests, np.zeros(layout.BLOCK, np.bool_))
    if not vectors and not records:
        kinds[:] = Kind.DEAD
        return replace(block, gone=True)
    codec = partition.codec
    if len(vectors or b"") != layout.BLOCK * codec.width:
        return replace(block, broken="vectors")
    try:
        packed = layout.unpack_records(records or b"\0")
    except StoreError:
        return replace(block, broken="records")
    matrix = codec.matrix(vectors or b"")
    lengths = np.frombuffer(records or b"", "<u4", layout.BLOCK)
    lives, blank = (lengths > 0) & (lengths < layout.DEAD), ~matrix.any(axis=1)
    values, inverses = codec.unpack(matrix)
    with np.errstate(all="ignore"):
        norms = np.linalg.norm(values.astype(np.float64), axis=1)
        sound = (inverses > 0) & (np.abs(norms * inverses - 1) < _TOLERANCE)
    kinds[(lengths >= layout.DEAD) & blank] = Kind.DEAD
    kinds[(lengths == 0) & blank] = Kind.EMPTY
    for slot in np.flatnonzero(lives & sound).tolist():
        try:
            digest = layout.uri_digest(layout.unpack_record(packed[slot]).uri)
        except StoreError:
            continue
        if layout.partition_of(digest, partitions) == partition.number:
            kinds[slot], digests[slot] = Kind.ALIVE, np.frombuffer(digest, np.uint8)
    return replace(block, bad_vectors=~np.where(lives, sound, blank))


def _note_block(rows: Rows, partition: Partition, number: int, block: _Block) -> None:
    first = number * layout.BLOCK
    used = min(layout.BLOCK, len(rows.kinds) - first)
    here = slice(first, first + used)
    rows.kinds[here], rows.digests[here] = block.kinds[:used], block.digests[:used]
    keys = {"vectors": partition.keys.vectors(number), "records": partition.keys.records(number)}
    if block.gone and used < layout.BLOCK and partition.state().rows < first + layout.BLOCK:
        # The next image is to be written there.
        block = replace(block, broken="records")
    if block.broken:
        rows.kinds[here] = Kind.BAD
        rows.broken.append(number)
        rows.damages.append(Damage(keys[block.broken], "it is not there, or cut"))
        return
    beyond = np.flatnonzero(block.kinds[used:] != Kind.EMPTY)
    if len(beyond):
        rows.ends.append(first + used + int(beyond[-1]) + 1)
    bad = (block.kinds[:used] == Kind.BAD) | (block.kinds[:used] == Kind.EMPTY)
    vectors = bad & block.bad_vectors[:used]
    for kind, which in (("vectors", vectors), ("records", bad & ~vectors)):
        if which.any():
            rows.damages.append(Damage(keys[kind], f"{which.sum()} of its rows are no images"))


def _entries(partition: Partition, hashes: range) -> Iterator[list[tuple[int, bytes, bytes]]]:
    """The entries of some hashes, in parts: the hash, the field, and the entry."""
    cursors = dict.fromkeys(hashes, 0)
    while cursors:
        answers = partition.store.call_many(
            [
                ("HSCAN", partition.keys.uris(number), cursor, "COUNT", _SCANNED)
                for number, cursor in cursors.items()
            ]
        )
        part = []
        for number, (cursor, pairs) in zip(list(cursors), answers, strict=True):
            part += [(number, name, entry) for name, entry in pairs.items()]
            cursors[number] = int(cursor)
        cursors = {number: cursor for number, cursor in cursors.items() if cursor}
        yield part


def _note_entries(rows: Rows, partition: Partition, part: list[tuple[int, bytes, bytes]]) -> None:
    """Note which images these entries lead to, and which of them to none."""
    size, count = layout.ROW_DTYPE.itemsize + layout.FINGERPRINT, len(rows.kinds)
    whole = [len(name) == layout.FIELD and len(entry) == size for _, name, entry in part]
    sound = [one for one, fits in zip(part, whole, strict=True) if fits]
    wrong: Counter[int] = Counter()
    for (number, name, _), fits in zip(part, whole, strict=True):
        if not fits:
            rows.strays.append((number, name))
            wrong[number] += 1
    leads = np.array([int.from_bytes(entry[:4], "little") for *_, entry in sound], np.int64)
    numbers = np.array([number for number, *_ in sound], np.int64)
    names = np.frombuffer(b"".join(name for _, name, _ in sound), np.uint8)
    names = names.reshape(-1, layout.FIELD)
    inside = np.flatnonzero(leads < count)
    to = leads[inside]
    fits_to = (
        (rows.kinds[to] == Kind.ALIVE)
        & (rows.digests[to, layout.PREFIX :] == names[inside]).all(axis=1)
        & (layout.uris_hashes(rows.digests[to], partition.uri_bits) == numbers[inside])
    )
    rows.found[to[fits_to]] = True
    beyond = np.flatnonzero(leads >= count)
    known = partition.state().rows if len(beyond) else 0
    unknown = beyond[leads[beyond] >= known]
    for i in [*inside[~fits_to].tolist(), *unknown.tolist()]:
        number, name, _ = sound[i]
        rows.strays.append((number, name))
        # That of an image which cannot be read is named with its block.
        if leads[i] >= count or rows.kinds[leads[i]] != Kind.BAD:
            wrong[number] += 1
    for number, times in wrong.items():
        what = f"{times} of its entries lead to no image"
        rows.damages.append(Damage(partition.keys.uris(number), what))
