"""FAISS's files of flat indexes, read without FAISS.

`faiss.write_index` writes a header and then the vectors as they are (faiss/impl/index_write.cpp):
four characters, the dimension, how many there are, two numbers that nobody uses, whether it is
trained, and the metric. An `IndexIDMap` is such a header, an index, and the ids.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError
from simdist.transfer.foreign import Vectors, in_batches

_HEADER = struct.Struct("<4siqqqBi")
_COUNT = struct.Struct("<Q")
_FLAT, _MAPS = (b"IxFI", b"IxF2", b"IxFl"), (b"IxMp", b"IxM2")


def read_faiss(path: Path, uris: Sequence[str] | None) -> Iterator[Vectors]:
    """The vectors of a flat index; their URIs are `faiss:<id>` where there is no list of them.

    Raises:
        SourceError: it cannot be read, is another kind of index, or the list does not go with it.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not a file that can be read") from error
    vectors, ids = _vectors(path, data)
    names = [f"faiss:{number}" for number in ids.tolist()] if uris is None else uris
    yield from in_batches(path, vectors, names)


def _vectors(path: Path, data: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The (n, dim) vectors, and the (n,) ids."""
    at, mapped, head = 0, False, data[: 2 * _HEADER.size + _COUNT.size].tobytes()
    try:
        kind, dim, count, *_ = _HEADER.unpack_from(head, at)
        if kind in _MAPS:
            mapped, at = True, _HEADER.size
            kind, dim, count, *_ = _HEADER.unpack_from(head, at)
        if kind not in _FLAT:
            raise SourceError(
                f"{path} is no flat index of FAISS, but {bytes(kind)!r}: other kinds keep no whole "
                "vectors; reconstruct them into a .npy file first"
            )
        at += _HEADER.size
        [size] = _COUNT.unpack_from(head, at)
        at += _COUNT.size
        if dim < 1 or count < 0 or size != dim * count:
            raise ValueError("its sizes do not agree")
        vectors = data[at : at + 4 * size].view("<f4").reshape(count, dim)
        at += 4 * size
        ids = np.arange(count)
        if mapped:
            [size] = data[at : at + _COUNT.size].view("<u8")
            ids = data[at + _COUNT.size : at + _COUNT.size + 8 * size].view("<i8")
        if len(ids) != count:
            raise ValueError("it is cut")
    except (struct.error, ValueError) as error:
        raise SourceError(f"{path} is damaged: {error}") from error
    return vectors, ids
