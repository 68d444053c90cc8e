"""Blocks of rows that lie in files, in a shared folder or an object store, and are read by ranges.

A file holds some hundred blocks, end to end, and is never changed. In a block each row's stored
vector is followed by its record, so that one range holds all of an image. Where a block begins, and
how long its records are, is in Redis (`moved:<block>` in `simdist.store.layout`).
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, starmap

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError
from simdist.index.history import History
from simdist.sources import objects
from simdist.sources.access import Access
from simdist.sources.background import in_background
from simdist.sources.output import OutputFolder
from simdist.sources.reference import uri_path
from simdist.store import Store, layout
from simdist.store.damage import count_of, damaged
from simdist.vectors.codec import Codec

# What a file begins with: no other is read, whatever Redis says.
_MAGIC = b"simdist vectors\1"
_PLACE = struct.Struct(f"<{layout.FILE}sQ")
_ROW = struct.Struct(f"<{layout.FILE}sQI")
# The field of the first partition's `meta` that says in which folder the files are.
FOLDER = "moved_to"
_LENGTHS = layout.BLOCK * 4
# Lengths below it can lie in 16 bits; added to those of dead rows there.
_SHORT = 1 << 15
_SUFFIX = ".vectors"
# Files of an object store that are read at once.
_AT_ONCE = 64


class MovedFiles:
    """The files of a partition."""

    def __init__(self, store: Store, keys: layout.Keys, codec: Codec, history: History) -> None:
        """Nothing is asked of Redis yet."""
        self._store = store
        self._keys = keys
        self._codec = codec
        self._history = history
        self._folder: OutputFolder | None = None

    def fetched(
        self, vectors: Sequence[bytes], records: Sequence[bytes]
    ) -> list[tuple[bytes, bytes]]:
        """Stored vectors and records of rows, those that lie in files read from there.

        Args:
            vectors, records: as `scripts.rows` answers them.

        Raises:
            SourceError: a file cannot be read.
            StoreError: it is not as Redis says.
        """
        rows, width = list(zip(vectors, records, strict=True)), self._codec.width
        moved = [i for i, (vector, record) in enumerate(rows) if record and not vector]
        for i, row in zip(moved, self._read([self._row(records[i]) for i in moved]), strict=True):
            rows[i] = row[:width], row[width:]
        return rows

    def blocks(self, places: Mapping[int, bytes]) -> dict[int, tuple[bytes, bytes]]:
        """Whole blocks as they would lie in Redis: of each its vectors and its records.

        Args:
            places: what is stored of each as `moved`.

        Raises:
            SourceError, StoreError: as `fetched`.
        """
        ranges, all_lengths = [], []
        for number, place in places.items():
            if len(place) not in {_PLACE.size + _LENGTHS, _PLACE.size + _LENGTHS // 2}:
                raise damaged(self._keys.moved(number), "it is cut")
            lengths = _lengths_in(place)
            size = int((lengths % layout.DEAD).sum()) + layout.BLOCK * self._codec.width
            ranges.append((*_PLACE.unpack_from(place), size))
            all_lengths.append(lengths)
        found = self._read(ranges)
        return {
            number: self._parted(block, lengths)
            for number, block, lengths in zip(places, found, all_lengths, strict=True)
        }

    def bits(self) -> int:
        """Those of the codes in Redis, where blocks may be in files; or 0."""
        key = self._keys.meta
        return count_of(self._store.call("HGET", key, "bits") or b"0", key, "bits", most=8)

    def write(self, blocks: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Write blocks into a new file; returns what tells of each where it lies.

        Args:
            blocks: as `blocks` returns them.

        Raises:
            OutputError: it cannot be written.
        """
        number = secrets.token_bytes(layout.FILE)
        parts, at, places = [_MAGIC], len(_MAGIC), []
        for vectors, records in blocks:
            joined = self._joined(vectors, records)
            places.append(_PLACE.pack(number, at))
            parts.append(joined)
            at += len(joined)
        self._files().put(_name(number), b"".join(parts))
        return places

    def _joined(self, vectors: bytes, records: bytes) -> bytes:
        """A block as it lies in a file."""
        lengths = np.frombuffer(records, "<u4", layout.BLOCK) % layout.DEAD
        ends = _LENGTHS + np.cumsum([0, *lengths.tolist()])
        width = self._codec.width
        return b"".join(
            part
            for slot, (start, end) in enumerate(pairwise(ends.tolist()))
            for part in (vectors[slot * width : (slot + 1) * width], records[start:end])
        )

    def _parted(self, block: bytes, lengths: NDArray[np.uint32]) -> tuple[bytes, bytes]:
        """A block out of a file as it lies in Redis, without what was deleted since."""
        width, at, vectors, records = self._codec.width, 0, [], [lengths.tobytes()]
        for length in lengths.tolist():
            size = length % layout.DEAD
            vector, record = block[at : at + width], block[at + width : at + width + size]
            dead = length >= layout.DEAD
            vectors.append(bytes(width) if dead else vector)
            records.append(bytes(size) if dead else record)
            at += width + size
        return b"".join(vectors), b"".join(records)

    def _row(self, place: bytes) -> tuple[bytes, int, int]:
        if len(place) != _ROW.size:
            raise damaged(self._keys.pattern("moved"), "it leads to no row")
        file, start, size = _ROW.unpack(place)
        return file, start, size

    def _files(self) -> OutputFolder:
        """The folder that they lie in."""
        if self._folder is None:
            self._folder = self._folder_now()
        return self._folder

    def _folder_now(self) -> OutputFolder:
        meta = layout.Keys(self._keys.home).meta
        said, born = self._store.call("HMGET", meta, FOLDER, "born")
        if said is None:
            # It goes with the collection.
            self._history.generations()
            raise damaged(meta, "it does not say where moved blocks are")
        return _folder_of(said, born, self._keys)

    def _read(self, ranges: Sequence[tuple[bytes, int, int]]) -> list[bytes]:
        """Parts of files: of each the file's number, where it begins, and how long it is."""
        found = [b""] * len(ranges)
        by_file: dict[bytes, list[int]] = {}
        for i, (file, _, _) in enumerate(ranges):
            by_file.setdefault(file, []).append(i)
        asked = [
            (file, [ranges[i][1] for i in members], [ranges[i][2] for i in members])
            for file, members in by_file.items()
        ]
        for members, parts in zip(by_file.values(), self._all_ranges(asked), strict=True):
            for i, part in zip(members, parts, strict=True):
                found[i] = part
        return found

    def _all_ranges(
        self, asked: Sequence[tuple[bytes, list[int], list[int]]]
    ) -> Iterator[list[bytes]]:
        """Parts of each of some files; an object store is asked for many at once."""
        if not asked or not objects.is_object(self._files().uri):
            yield from starmap(self._ranges, asked)
            return
        for at in range(0, len(asked), _AT_ONCE):
            waiting = [in_background(self._ranges, *one) for one in asked[at : at + _AT_ONCE]]
            for future in waiting:
                yield future.result()

    def _ranges(self, file: bytes, starts: list[int], sizes: list[int]) -> list[bytes]:
        folder = self._files()
        try:
            parts = _read_ranges(f"{folder.uri}/{_name(file)}", folder.access, starts, sizes)
        except SourceError:
            # Meanwhile they may have been brought back, and moved elsewhere.
            self._folder = self._folder_now()
            if self._folder == folder:
                raise
            return self._ranges(file, starts, sizes)
        if list(map(len, parts)) != list(sizes):
            raise SourceError(f"{folder.uri}/{_name(file)} is cut: restore it from a backup")
        return parts


def _read_ranges(uri: str, access: Access, starts: list[int], sizes: list[int]) -> list[bytes]:
    """Parts of a file, shorter where it is cut.

    Raises:
        SourceError: it cannot be read, or is of another kind.
    """
    if objects.is_object(uri):
        return objects.read_ranges(uri, access, starts=starts, lengths=sizes)
    path = uri_path(uri)
    try:
        # Whatever Redis says, it is a file of this kind or none.
        with path.open("rb", buffering=0) as file:
            if os.pread(file.fileno(), len(_MAGIC), 0) != _MAGIC:
                raise SourceError(f"{path} holds no vectors of simdist")
            return [
                os.pread(file.fileno(), size, start)
                for start, size in zip(starts, sizes, strict=True)
            ]
    except OSError as error:
        raise SourceError(
            f"cannot read {path}: {error.strerror}; vectors of a collection are there: every "
            "worker needs that folder"
        ) from error


def remove_files(state: Mapping[bytes, bytes], keys: layout.Keys) -> None:
    """Remove the files of a partition that is dropped, if it has any.

    Args:
        state: what the first partition's `meta` was.

    Raises:
        SourceError, OutputError: they cannot be listed, or removed.
    """
    if folder := state.get(FOLDER.encode()):
        files = _folder_of(folder, state.get(b"born"), keys)
        for name in files.names():
            # Nothing of others, whatever Redis says.
            if name.endswith(_SUFFIX):
                files.remove(name)


def _folder_of(folder: bytes, born: bytes | None, keys: layout.Keys) -> OutputFolder:
    """Those of a partition; with the collection's mark, for other servers have others so called."""
    home = f"{keys.home}-{(born or b'').decode()}"
    return OutputFolder.of(f"{folder.decode()}/{home}/{keys.partition}", Access.resolve())


def _lengths_in(place: bytes) -> NDArray[np.uint32]:
    """(60,) the lengths of a block's records, as in `records`."""
    packed = place[_PLACE.size :]
    if len(packed) == _LENGTHS:
        return np.frombuffer(packed, "<u4")
    short = np.frombuffer(packed, "<u2").astype("<u4")
    return np.where(short < _SHORT, short, short - _SHORT + layout.DEAD).astype("<u4")


def _name(number: bytes) -> str:
    return number.hex() + _SUFFIX
