"""Every key name and every byte layout in Redis. Change one, and `VERSION` goes up.

A collection's keys start with `simdist:{<collection>/<partition>}:`; the braces are the hash tag
that keeps a partition's keys in one slot of a Redis Cluster. Integers are little-endian.

    simdist:collections   set of collection names
    ...meta               hash: version, model, model_id, dim, dtype;
                          rows (the next row's number), live (images), epoch (changes so far);
                          generation (of the tables; 0: none yet), fitted (images they were fitted
                          on), next (generation that is being filled; 0: none), next_fitted,
                          filled (rows below it are in the next tables), fill (rows to fill),
                          retired (generation whose tables are to be dropped)
    ...family:<g>         the hash family of generation g: its kind, a zero byte, an .npz file
    ...uri:<2 bytes>      hash: the other 14 bytes of the URI's digest -> u32 row, 8 bytes of the
                          fingerprint's digest; 65,536 of them stay small enough to be compact
    ...row:<row>          one packed record, see `pack_record`
    ...bucket:<g>:<t>:<b> u32 rows, append-only
    ...rehash             who fills in the next tables: a lease
    ...dead               bitmap of the rows that were deleted or replaced
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
COLLECTIONS = "simdist:collections"

# scale, length of the URI, length of the label + 1 (0: no label), length of the metadata
_HEADER = struct.Struct("<fHHI")
ROW_DTYPE = np.dtype("<u4")


def meta_key(collection: str, partition: int = 0) -> str:
    """The key from whose name the scripts make all others of the partition."""
    return f"simdist:{{{collection}/{partition}}}:meta"


def key(collection: str, *parts: str | int, partition: int = 0) -> str:
    """Any other key of a partition: `key("demo", "row", 7)`."""
    return f"simdist:{{{collection}/{partition}}}:" + ":".join(str(part) for part in parts)


def uri_key(collection: str, digest: bytes) -> bytes:
    """The key of the hash that a URI with this digest is in."""
    return key(collection, "uri:").encode() + digest[:2]


def uri_digest(uri: str) -> bytes:
    """16 bytes that stand for a URI; two URIs that share them are taken for one."""
    return hashlib.blake2b(uri.encode(), digest_size=16).digest()


def fingerprint_digest(fingerprint: str) -> bytes:
    """8 bytes that stand for the state of an image's content."""
    return hashlib.blake2b(fingerprint.encode(), digest_size=8).digest()


def digests(uri: str, fingerprint: str) -> bytes:
    """Both digests, end to end, as the scripts take them."""
    return uri_digest(uri) + fingerprint_digest(fingerprint)


@dataclass(frozen=True)
class Record:
    """What is stored of one image.

    Attributes:
        vector: (dim,) float32, as it can be restored from the stored form.
    """

    uri: str
    label: str | None
    metadata: Mapping[str, Any]
    vector: NDArray[np.float32]


def quantise(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors -> int8 values and a scale each, so that the lengths are kept exactly.

    Args:
        vectors: (n, d) float32.

    Returns:
        (n, d) int8 and (n,) float32; row i is restored as `values[i] * scales[i]`.
    """
    peaks = np.abs(vectors).max(axis=1, keepdims=True)
    values = np.rint(vectors * (127.0 / peaks)).astype(np.int8)
    lengths = np.linalg.norm(values.astype(np.float32), axis=1)
    return values, (np.linalg.norm(vectors, axis=1) / lengths).astype(np.float32)


def pack_record(
    values: NDArray[Any], scale: float, *, uri: str, label: str | None, metadata: Mapping[str, Any]
) -> bytes:
    """One record: header, vector, URI, label, metadata as JSON (nothing where there is none)."""
    uri_bytes = uri.encode()
    label_bytes = label.encode() if label is not None else b""
    extra = json.dumps(metadata, separators=(",", ":")).encode() if metadata else b""
    label_mark = len(label_bytes) + 1 if label is not None else 0
    header = _HEADER.pack(scale, len(uri_bytes), label_mark, len(extra))
    return b"".join((header, values.tobytes(), uri_bytes, label_bytes, extra))


def unpack_vectors(
    records: list[bytes], *, dim: int, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The vectors of packed records: (n, dim) of `dtype`, and (n,) float32 scales."""
    width = _HEADER.size + dim * dtype.itemsize
    block = np.frombuffer(b"".join(record[:width] for record in records), dtype=np.uint8)
    block = block.reshape(len(records), width)
    scales = np.ascontiguousarray(block[:, :4]).view("<f4").ravel()
    return np.ascontiguousarray(block[:, _HEADER.size :]).view(dtype), scales


def unpack_record(record: bytes, *, dim: int, dtype: np.dtype[Any]) -> Record:
    """One packed record, whole."""
    scale, uri_size, label_mark, _ = _HEADER.unpack_from(record)
    start = _HEADER.size + dim * dtype.itemsize
    values = np.frombuffer(record, dtype, dim, _HEADER.size).astype(np.float32)
    label_at = start + uri_size
    extra_at = label_at + max(label_mark - 1, 0)
    return Record(
        uri=record[start:label_at].decode(),
        label=record[label_at:extra_at].decode() if label_mark else None,
        metadata=json.loads(record[extra_at:]) if len(record) > extra_at else {},
        vector=values * np.float32(scale),
    )
