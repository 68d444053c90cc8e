"""Every key name and every byte layout in Redis. Change one, and `VERSION` goes up.

A collection has one or more partitions; an image belongs to the partition of its URI's digest. A
partition's keys start with `simdist:{<home>/<partition>}:`; the braces are the hash tag that keeps
them in one slot of a Redis Cluster. A collection's home is the name that it was made under, or that
name with a random end if keys of another begin so; what it is called is another matter. Integers
are little-endian.

    simdist:collections   set of the homes of all collections
    simdist:{names}       hash, what each name leads to: "=" and the home of the collection that is
                          called so; ">" and a home, where the name is an alias; "-" where the name
                          is a home, and nothing is called so; a name that is not there leads to the
                          home of that name, if there is one. "!" and a home lead to what is under
                          way with it, JSON: see `simdist.index.dropping`, `simdist.index.copying`
    ...meta               hash: rows (the next row's number), live (images), epoch (changes so far);
                          generation (of the tables, see `generation_after`; 0: none yet),
                          fitted (images they were fitted on),
                          skipped (rows that had died when they were filled), next (generation
                          that is being filled; 0: none), next_fitted, next_skipped,
                          filled (rows below it are in the next tables), fill (rows to fill),
                          retired (generation whose tables are to be dropped), born (a random
                          mark, by which one is known that was lost and made anew),
                          bits (of the codes, where blocks may be in files), returning (a mark of
                          who brings them back), mending (a repair has begun, and not ended); in
                          partition 0 also moved_to (the folder of the files), and what holds for
                          all of them: version, model, model_id, dim, dtype, expect (images),
                          partitions, uri_bits, tuning (recall by probes, JSON, see `tuning`),
                          asked (the rebuild under way that was asked for, JSON), fields (types of
                          metadata's fields by their names, JSON)
    ...family:<g>         the hash family of generation g: its kind, a zero byte, an .npz file
    ...uris:<part>        hash: the URI's digest less its prefix -> u32 row, the fingerprint's
                          digest; 2^uri_bits of them, so that each is small
    ...vectors:<block>    a block's stored vectors, end to end: each the float32 inverse of its
                          values' length, and the values; zeros where there is none yet, or the
                          image was deleted or replaced; absent where all 60 were
    ...records:<block>    what else is stored of the same images: u32 lengths of the block's
                          records, 0 where there is none yet, 2^31 added where the image was
                          deleted or replaced; and the records, end to end: URI, place,
                          print, label, metadata (`records.pack_records`)
    ...moved:<block>      of a block that is in a file (`simdist.index.moved`): the file's number,
                          where in it the block begins, u64, and the lengths as in records, which
                          are gone: u16 where all are below 2^15, with 2^15 for 2^31; its vectors
                          are codes then (`simdist.vectors.codes`)
    ...bucket:<g>:<t>:<b> u32 rows, append-only
    ...dead               u32 rows that were deleted or replaced, append-only
    ...tips               8 random bytes for each of the last 65,536 changes, that of change e at
                          8 * (e mod 65,536): a failover or a restored backup that loses changes
                          is noticed by whoever has seen one of them
    ...rehash             who fills in the next tables: a lease
    ...failures           in partition 0: hash, URI -> JSON, see `simdist.ingest.failures`
    ...decisions          in partition 0: hash, see `simdist.joining.decisions`
    ...dropped            what `meta` was, while the keys of a dropped collection are removed
    ...meta:waited        written so that replicas have something to confirm; gone in a second

A block of vectors is made in its full size, and one of records written anew when it is full: a
string that grows takes up to twice what it needs. A key of its own would cost an image 70 bytes.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from mmh3 import mmh3_x64_128_digest
from numpy.typing import NDArray

from simdist.store.records import (
    BLOCK,
    DEAD,
    Record,
    pack_records,
    unpack_listed,
    unpack_look,
    unpack_record,
    unpack_records,
    unpack_uri,
)

# What lies in blocks is part of the layout, and is asked for here.
__all__ = [
    "BLOCK",
    "DEAD",
    "Record",
    "pack_records",
    "unpack_listed",
    "unpack_look",
    "unpack_record",
    "unpack_records",
    "unpack_uri",
]

VERSION = 11
COLLECTIONS = "simdist:collections"
NAMES = "simdist:{names}"

ROW_DTYPE = np.dtype("<u4")

# Rows are stored in 32 bits; scripts count changes in what Lua has, doubles.
MAX_ROWS, MAX_EPOCH, MAX_GENERATION = (1 << 32) - 1, 10**15 - 1, (1 << 63) - 1

# Bytes of a URI's digest that choose its `uris` hash, and of the field in it.
PREFIX, FIELD = 3, 9
# Bytes of a fingerprint's digest, and what it is cut from.
FINGERPRINT, _MURMUR = 6, 16

# Bytes of the number of a file that blocks lie in, and of where they begin.
FILE, OFFSET = 8, 8

# Bytes that tell a change from any other, and of how many changes they are kept.
TIP, TIPS = 8, 1 << 16

# Entries of a `uris` hash that are aimed at. Up to 512 a server keeps them compact, in 24 bytes
# each in place of twice as many; and goes through them all for each that is looked up.
_URI_ENTRIES = 64


@dataclass(frozen=True)
class Keys:
    """The names of a partition's keys."""

    home: str
    partition: int = 0

    def _key(self, *parts: str | int) -> str:
        base = f"simdist:{{{self.home}/{self.partition}}}"
        return ":".join([base, *map(str, parts)])

    @property
    def meta(self) -> str:
        """The partition's state. The scripts make all other names from this one."""
        return self._key("meta")

    @property
    def dead(self) -> str:
        """The rows that were deleted or replaced."""
        return self._key("dead")

    @property
    def lease(self) -> str:
        """Who fills the next tables."""
        return self._key("rehash")

    @property
    def failures(self) -> str:
        """The images that could not be indexed."""
        return self._key("failures")

    @property
    def decisions(self) -> str:
        """What somebody has decided about duplicates."""
        return self._key("decisions")

    @property
    def dropped(self) -> str:
        """What `meta` was, while the rest of a dropped partition is removed."""
        return self._key("dropped")

    @property
    def tips(self) -> str:
        """By which changes are told from each other."""
        return self._key("tips")

    def family(self, generation: int) -> str:
        """The hash family of a generation."""
        return self._key("family", generation)

    def uris(self, number: int) -> str:
        """One of the hashes that lead from URIs to rows."""
        return self._key("uris", number)

    def vectors(self, block: int) -> str:
        """The stored vectors of a block of rows."""
        return self._key("vectors", block)

    def records(self, block: int) -> str:
        """The records of a block of rows."""
        return self._key("records", block)

    def moved(self, block: int) -> str:
        """Where a block of rows lies that is in a file."""
        return self._key("moved", block)

    def bucket(self, generation: int, table: int, bucket: int) -> str:
        """The rows in a bucket."""
        return self._key("bucket", generation, table, bucket)

    def pattern(self, kind: str = "") -> str:
        """A pattern of SCAN for all keys of a kind, such as "vectors"; by default for all."""
        return self._key(kind, "*") if kind else self._key("*")


def waited_key(meta: str) -> str:
    """A key beside a partition's `meta`, to be written before WAIT."""
    return f"{meta}:waited"


def generation_after(generation: int) -> int:
    """A number for new tables: the upper bits count them, the lower 32 are random.

    So no other tables ever get the same, also where Redis has lost some and they are made anew.
    """
    return ((generation >> 32) + 1 << 32) | secrets.randbits(32)


def epoch_of(moment: bytes) -> int:
    """The number of the change that a moment (`scripts.Seen`) is of."""
    return int.from_bytes(moment[:8], "little")


def uri_bits(images: int) -> int:
    """How many bits of a digest choose its `uris` hash, for so many images a partition."""
    return min(24, max(0, math.ceil(math.log2(max(1, images) / _URI_ENTRIES))))


def uri_digest(uri: str) -> bytes:
    """12 bytes that stand for a URI; two URIs that share them are taken for one.

    The first 3 choose the `uris` hash, the other 9 are the field in it. Among ten billion URIs two
    share them with a probability of 1 to 10^9.
    """
    return hashlib.blake2b(uri.encode()).digest()[: PREFIX + FIELD]


def uri_digests(uris: Iterable[str]) -> NDArray[np.uint8]:
    """(n, 12), `uri_digest` of each."""
    size = PREFIX + FIELD
    joined = b"".join([hashlib.blake2b(uri.encode()).digest()[:size] for uri in uris])
    return np.frombuffer(joined, np.uint8).reshape(-1, size)


def uris_hashes(digests: NDArray[np.uint8], bits: int) -> NDArray[np.intp]:
    """(n, 12 or more) bytes of digests -> (n,) the `uris` hashes that they belong into."""
    first, second, third = digests[:, :PREFIX].T.astype(np.intp)
    hashes: NDArray[np.intp] = (first << 16 | second << 8 | third) >> (8 * PREFIX - bits)
    return hashes


def partition_of(digest: bytes, partitions: int) -> int:
    """The partition of a URI with this digest."""
    return int.from_bytes(digest[-4:], "little") % partitions


def digests(uris: Sequence[bytes], fingerprints: Sequence[str]) -> NDArray[np.uint8]:
    """(n, 18) bytes, as the scripts take them: `uri_digest`, and 6 of the fingerprint's digest.

    The latter are MurmurHash3's first, which takes a quarter of BLAKE2's time: whoever makes two
    fingerprints that share a digest only hides a change of an image of their own.

    Args:
        uris: encoded.
    """
    # Without `uri_digest`: for so many, a call is a tenth of the time.
    names = [hashlib.blake2b(uri).digest() for uri in uris]
    prints = [mmh3_x64_128_digest(fingerprint.encode()) for fingerprint in fingerprints]
    name_bytes = np.frombuffer(b"".join(names), np.uint8).reshape(
        -1, hashlib.blake2b.MAX_DIGEST_SIZE
    )
    print_bytes = np.frombuffer(b"".join(prints), np.uint8).reshape(-1, _MURMUR)
    return np.hstack([name_bytes[:, : PREFIX + FIELD], print_bytes[:, :FINGERPRINT]])


def fingerprint_digest(fingerprint: str) -> bytes:
    """The 6 bytes of `digests` that stand for a fingerprint."""
    return mmh3_x64_128_digest(fingerprint.encode())[:FINGERPRINT]
