"""Every key name and every byte layout in Redis. Change one, and `VERSION` goes up.

A collection has one or more partitions; an image belongs to the partition of its URI's digest. A
partition's keys start with `simdist:{<collection>/<partition>}:`; the braces are the hash tag that
keeps them in one slot of a Redis Cluster. Integers are little-endian.

    simdist:collections   set of collection names
    ...meta               hash: rows (the next row's number), live (images), epoch (changes so far);
                          generation (of the tables; 0: none yet), fitted (images they were fitted
                          on), next (generation that is being filled; 0: none), next_fitted,
                          filled (rows below it are in the next tables), fill (rows to fill),
                          retired (generation whose tables are to be dropped), born (a random
                          mark, by which one is known that was lost and made anew); in partition 0
                          also what holds for all of them: version, model, model_id, dim, dtype,
                          expect (images), partitions, uri_bits, tuning (recall by probes, JSON,
                          see `tuning`), asked (the rebuild under way that was asked for, JSON)
    ...family:<g>         the hash family of generation g: its kind, a zero byte, an .npz file
    ...uris:<part>        hash: the URI's digest less its prefix -> u32 row, the fingerprint's
                          digest; 2^uri_bits of them, so that each can be moved in milliseconds
    ...vectors:<block>    a block's stored vectors, end to end: each the float32 inverse of its
                          values' length, and the values; zeros where there is none yet, or the
                          image was deleted or replaced; absent where all 64 were
    ...records:<block>    what else is stored of the same images: u32 lengths of the block's
                          records, 0 where there is none yet, 2^31 added where the image was
                          deleted or replaced; and the records, end to end, see `pack_records`
    ...bucket:<g>:<t>:<b> u32 rows, append-only
    ...dead               u32 rows that were deleted or replaced, append-only
    ...rehash             who fills in the next tables: a lease
    ...failures           in partition 0: hash, URI -> JSON, see `simdist.ingest.failures`
    ...meta:waited        written so that replicas have something to confirm; gone in a second

A block of vectors is made in its full size, and one of records written anew when it is full: a
string that grows takes up to twice what it needs. A key of its own would cost an image 70 bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from mmh3 import mmh3_x64_128_digest
from numpy.typing import NDArray

VERSION = 5
COLLECTIONS = "simdist:collections"

ROW_DTYPE = np.dtype("<u4")
# Rows in a block; the scripts have the number too.
BLOCK = 64

# Bytes of a URI's digest that choose its `uris` hash, and of the field in it.
PREFIX, FIELD = 3, 11
# Bytes of a fingerprint's digest, and what it is cut from.
_STATE, _MURMUR = 8, 16

# length of the URI, length of the label + 1 (0: no label)
_HEADER = struct.Struct("<HH")
_INVERSE_LENGTH = 4
# What is added to the length of a dead row's record.
_DEAD = 1 << 31
# Entries of a `uris` hash that are aimed at: so many that a batch puts several into each. As small
# ones, which servers keep compact, they would take 30 bytes less an image, and 2 us more to write.
_URI_ENTRIES = 16384


def meta_key(collection: str, partition: int = 0) -> str:
    """The key from whose name the scripts make all others of the partition."""
    return f"simdist:{{{collection}/{partition}}}:meta"


def waited_key(meta: str) -> str:
    """A key beside a partition's `meta`, to be written before WAIT."""
    return f"{meta}:waited"


def key(collection: str, partition: int, *parts: str | int) -> str:
    """Any other key of a partition: `key("demo", 0, "vectors", 7)`."""
    return f"simdist:{{{collection}/{partition}}}:" + ":".join(str(part) for part in parts)


def uri_bits(images: int) -> int:
    """How many bits of a digest choose its `uris` hash, for so many images a partition."""
    return min(24, max(0, math.ceil(math.log2(max(1, images) / _URI_ENTRIES))))


def uri_digest(uri: str) -> bytes:
    """14 bytes that stand for a URI; two URIs that share them are taken for one.

    The first 3 choose the `uris` hash, the other 11 are the field in it.
    """
    return hashlib.blake2b(uri.encode()).digest()[: PREFIX + FIELD]


def uris_hashes(digests: NDArray[np.uint8], bits: int) -> NDArray[np.intp]:
    """(n, 14 or more) bytes of digests -> (n,) the `uris` hashes that they belong into."""
    first, second, third = digests[:, :PREFIX].T.astype(np.intp)
    hashes: NDArray[np.intp] = (first << 16 | second << 8 | third) >> (8 * PREFIX - bits)
    return hashes


def partition_of(digest: bytes, partitions: int) -> int:
    """The partition of a URI with this digest."""
    return int.from_bytes(digest[-4:], "little") % partitions


def digests(uris: Sequence[bytes], fingerprints: Sequence[str]) -> NDArray[np.uint8]:
    """(n, 22) bytes, as the scripts take them: `uri_digest`, and 8 for the state of the content.

    The latter are MurmurHash3's first, a quarter of the time of BLAKE2: who can make two
    fingerprints that share theirs deceives nobody but about an own image.

    Args:
        uris: encoded.
    """
    # Without `uri_digest`: for so many, a call is a tenth of the time.
    names = [hashlib.blake2b(uri).digest() for uri in uris]
    states = [mmh3_x64_128_digest(fingerprint.encode()) for fingerprint in fingerprints]
    name_bytes = np.frombuffer(b"".join(names), np.uint8).reshape(
        -1, hashlib.blake2b.MAX_DIGEST_SIZE
    )
    state_bytes = np.frombuffer(b"".join(states), np.uint8).reshape(-1, _MURMUR)
    return np.hstack([name_bytes[:, : PREFIX + FIELD], state_bytes[:, :_STATE]])


@dataclass(frozen=True)
class Record:
    """What is stored of one image beside its vector."""

    uri: str
    label: str | None
    metadata: Mapping[str, Any]


def pack_vectors(vectors: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.uint8]:
    """Vectors as they are stored: (n, d) float32 -> (n, `vector_width`) bytes.

    As int8 only the direction is kept; its cosine with the original is above .9998 as a rule.
    """
    packed = np.empty((len(vectors), vector_width(vectors.shape[1], dtype)), np.uint8)
    values, inverse_lengths = packed[:, _INVERSE_LENGTH:], np.empty(len(vectors), "<f4")
    if dtype == np.int8:
        from simdist.vectors.loops import round_rows

        round_rows(vectors, values.view(np.int8), inverse_lengths)
    else:
        values[:] = np.ascontiguousarray(vectors).view(np.uint8)
        inverse_lengths[:] = 1 / np.linalg.norm(vectors, axis=1)
    packed[:, :_INVERSE_LENGTH] = inverse_lengths[:, None].view(np.uint8)
    return packed


def vector_width(dim: int, dtype: np.dtype[Any]) -> int:
    """Bytes of one stored vector."""
    return _INVERSE_LENGTH + dim * dtype.itemsize


def wholes(rows: NDArray[Any]) -> NDArray[np.void]:
    """(n, k) -> (n,), a view: each row is one item, whose bytes NumPy copies at once.

    One by one, as it indexes rows of bytes, that takes ten times as long.
    """
    view: NDArray[np.void] = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))
    return view[:, 0]


def alive(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which stored vectors are there, by their inverse lengths: (n, width) bytes -> (n,) bool."""
    return np.asarray(packed[:, :_INVERSE_LENGTH].any(axis=1))


def unpack_vectors(
    packed: NDArray[np.uint8], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Stored vectors, (n, `vector_width`) bytes -> (n, d) values, a view, and (n,) 1 / lengths."""
    inverse_lengths = np.ascontiguousarray(packed[:, :_INVERSE_LENGTH]).view("<f4").ravel()
    return packed[:, _INVERSE_LENGTH:].view(dtype), inverse_lengths


def pack_records(
    uris: Sequence[bytes], labels: Sequence[str | None], metadata: Sequence[Mapping[str, Any]]
) -> list[bytes]:
    """Records: each a header, the URI, the label, metadata as JSON (nothing where there is none).

    Args:
        uris: encoded.
    """
    return [
        _HEADER.pack(len(uri), 0) + uri
        if label is None and not extra
        else _pack_record(uri, label, extra)
        for uri, label, extra in zip(uris, labels, metadata, strict=True)
    ]


def _pack_record(uri: bytes, label: str | None, metadata: Mapping[str, Any]) -> bytes:
    label_bytes = label.encode() if label is not None else b""
    extra = json.dumps(metadata, separators=(",", ":")).encode() if metadata else b""
    label_mark = len(label_bytes) + 1 if label is not None else 0
    return _HEADER.pack(len(uri), label_mark) + uri + label_bytes + extra


def unpack_records(block: bytes) -> list[bytes]:
    """The records of a block, from the first on; empty where there is none any more."""
    if not block:
        return [b""] * BLOCK
    lengths = np.frombuffer(block, "<u4", BLOCK)
    bounds = [0, *np.cumsum(lengths % _DEAD).tolist()]
    return [
        block[4 * BLOCK + start : 4 * BLOCK + end] if length < _DEAD else b""
        for length, (start, end) in zip(lengths.tolist(), pairwise(bounds), strict=True)
    ]


def unpack_record(record: bytes) -> Record:
    """One packed record."""
    uri_size, label_mark = _HEADER.unpack_from(record)
    label_at = _HEADER.size + uri_size
    extra_at = label_at + max(label_mark - 1, 0)
    return Record(
        uri=record[_HEADER.size : label_at].decode(),
        label=record[label_at:extra_at].decode() if label_mark else None,
        metadata=json.loads(record[extra_at:]) if len(record) > extra_at else {},
    )
