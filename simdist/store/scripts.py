"""The server-side scripts that read and write images, each as a function with typed arguments.

Those that make and replace hash tables are in `table_scripts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from simdist.store.connection import Argument, Store
from simdist.store.lua_source import random_tip, run

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """What a process knows of a partition's past; what Redis has may be something else by now.

    Attributes:
        born: the partition's mark.
        moment: the last that the process has seen, as scripts answer it: 8 bytes, the number of a
            change, and its tip; empty for none.
    """

    born: bytes
    moment: bytes = b""

    def arguments(self) -> dict[str, Argument]:
        """As the scripts take it."""
        return {"born": self.born, "seen": self.moment}


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a script answers, and the moment it is of; None in its place if what was seen is lost.

    Attributes:
        moment: as in `Seen`.
    """

    moment: bytes
    value: T


@dataclass(frozen=True)
class Tables:
    """The generations of hash tables that a batch is written to.

    Attributes:
        generation: of the tables in use.
        count: how many tables these are.
        following: the generation that is being filled; 0 for none.
        following_count: how many tables those are.
    """

    generation: int
    count: int
    following: int = 0
    following_count: int = 0


@dataclass(frozen=True)
class NewImages:
    """A batch of images as `insert` takes them. No URI comes twice.

    Attributes:
        hashes: u32 pairs: a `uris` hash, and how many of the images belong to it.
        entries: in the order of the hashes, the field and the entry of each image.
        runs: u32 triples: a table (those of the next generation count on), a bucket, and how many
            of the images that come next belong to it; for each table all images.
        rows: the u32 rows of all images.
        blocks: three strings for each block of rows: stored vectors, u32 lengths of records,
            records; each end to end.
    """

    hashes: bytes
    entries: bytes
    runs: bytes
    rows: bytes
    blocks: Sequence[bytes]


@dataclass(frozen=True)
class Images:
    """A batch of images as `commit` takes them. No URI comes twice.

    Attributes:
        hashes: as `NewImages` has them.
        fields: the fields of the images, in the order of the hashes.
        fingerprints: the digests of their fingerprints, in the same order.
        positions: u32: which image of the batch each of these is, from 1 on.
        expected: u32, in the same order: the row of the image that each is to replace, or it is
            left alone; empty where all are written.
        buckets: u32: of all images in one table, then in the next.
        lengths: u32: of the records.
        records: end to end.
        vectors: stored vectors end to end, cut where a block is expected to end: what the server
            need not cut it does not copy once more.
    """

    hashes: bytes
    fields: bytes
    fingerprints: bytes
    positions: bytes
    expected: bytes
    buckets: bytes
    lengths: bytes
    records: bytes
    vectors: Sequence[bytes]


def known(
    store: Store, meta: str, seen: Seen, *, uri_bits: int, digests: bytes
) -> Answer[bytes] | None:
    """Which images are indexed: a character for each.

    '1' with this content, '2' with another, '0' not at all.

    Args:
        digests: `layout.digests`, end to end.
    """
    arguments = seen.arguments() | {"uri_bits": uri_bits, "digests": digests}
    return _answer(run(store, "known", meta, arguments))


def delete(
    store: Store, meta: str, seen: Seen, *, uri_bits: int, width: int, digests: bytes, rows: bytes
) -> Answer[bytes] | None:
    """Delete images: '-' for each, '=' where it has another row than is expected, '0' for none.

    Args:
        width: bytes of a stored vector.
        digests, rows: of each `layout.uri_digest`, and the u32 row that it is to have (or none).
    """
    arguments = seen.arguments() | {
        "tip": random_tip(),
        "uri_bits": uri_bits,
        "width": width,
        "digests": digests,
        "expected": rows,
    }
    return _answer(run(store, "delete", meta, arguments))


def read(
    store: Store,
    meta: str,
    seen: Seen,
    *,
    generation: int,
    dead_known: int,
    limit: int,
    width: int,
    wanted: bytes,
) -> list[Any] | None:
    """Read what buckets hold beyond what the reader has, and which rows have died since.

    Args:
        dead_known: how many dead rows the reader knows.
        limit: rows to read at most.
        width: bytes of a stored vector.
        wanted: u32 triples of table, bucket, and how much of it the reader has.

    Returns:
        The moment; how many rows there are; the bits of codes in place of vectors, or 0; u32 rows
        that died; of each bucket, until the limit is reached, u32 how many rows come; these, u32;
        where there are bits for each row a byte, 1 for a code and 0 for a vector; a list of codes,
        and one of vectors, of which some may be end to end. None if the partition has other tables
        by now, was made anew, or lost what was seen (or cannot tell, after so many changes).
    """
    arguments = seen.arguments() | {
        "generation": generation,
        "dead_known": dead_known,
        "limit": limit,
        "width": width,
        "wanted": wanted,
    }
    reply: list[Any] | None = run(store, "read", meta, arguments)
    return reply


def rows(store: Store, meta: str, seen: Seen, *, width: int, rows: bytes) -> list[bytes] | None:
    """The stored vector and the record of each row, in turn; an empty record for a dead one.

    Of one that lies in a file the vector is empty, and the record says where it is: the file's
    number, u64 where it begins, u32 how long its vector and its record are.

    Args:
        width: bytes of a stored vector.
        rows: u32, end to end.

    Returns:
        None if the partition was made anew, or lost what was seen.
    """
    arguments = seen.arguments() | {"width": width, "rows": rows}
    reply: list[bytes] | None = run(store, "rows", meta, arguments)
    return reply


def find(
    store: Store, meta: str, *, born: bytes, uri_bits: int, width: int, digests: bytes
) -> list[bytes] | None:
    """Each image's stored vector, record and fingerprint's digest; all empty if it is not there.

    Of one that lies in a file they are as in `rows`.

    Args:
        width: bytes of a stored vector.
        digests: `layout.uri_digest`, end to end.

    Returns:
        None if the partition was made anew.
    """
    arguments: dict[str, Argument] = {
        "born": born,
        "uri_bits": uri_bits,
        "width": width,
        "digests": digests,
    }
    reply: list[bytes] | None = run(store, "find", meta, arguments)
    return reply


def insert(
    store: Store, meta: str, seen: Seen, tables: Tables, new: NewImages, *, row: int, replicas: int
) -> Answer[int] | None:
    """Commit a batch of which all images are new: all of it or nothing.

    Args:
        row: the row that the first image gets.
        replicas: how many must confirm it (`Store.run`).

    Returns:
        Whether it was written. It was not if an image is indexed already, if the first row would
        be another, or if the partition has other generations by now.
    """
    arguments = seen.arguments() | {
        "tip": random_tip(),
        "generation": tables.generation,
        "tables": tables.count,
        "following": tables.following,
        "first_row": row,
        "hashes": new.hashes,
        "entries": new.entries,
        "runs": new.runs,
        "rows": new.rows,
    }
    return _answer(run(store, "insert", meta, arguments, new.blocks, replicas=replicas))


def commit(
    store: Store,
    meta: str,
    seen: Seen,
    tables: Tables,
    images: Images,
    *,
    force: bool,
    replicas: int,
) -> Answer[bytes | None] | None:
    """Commit a batch of images: all of it or nothing; committed again, it changes nothing.

    Args:
        force: replace also what is unchanged.
        replicas: how many must confirm it (`Store.run`).

    Returns:
        A character for each image: '=' left alone, '+' added, '~' replaced; None if the partition
        has other generations by now.
    """
    arguments = seen.arguments() | {
        "tip": random_tip(),
        "generation": tables.generation,
        "tables": tables.count,
        "following": tables.following,
        "following_tables": tables.following_count,
        "force": int(force),
        "hashes": images.hashes,
        "fields": images.fields,
        "fingerprints": images.fingerprints,
        "positions": images.positions,
        "expected": images.expected,
        "buckets": images.buckets,
        "lengths": images.lengths,
        "records": images.records,
    }
    return _answer(run(store, "commit", meta, arguments, images.vectors, replicas=replicas))


def move(
    store: Store,
    meta: str,
    seen: Seen,
    *,
    width: int,
    returning: str,
    last: bool,
    blocks: Sequence[Argument],
) -> Answer[int] | None:
    """Let blocks lie in a file, or here again; what was deleted since they were read stays so.

    Args:
        width: bytes of a stored vector.
        returning: a mark of who has begun to bring blocks back; "" where nobody is to have.
        last: all are back.
        blocks: five for each: its number, the u32 lengths of its records as they were read, where
            it lies (the file's number, u64 where it begins there) or "", its vectors or codes, and
            its records, end to end, or "".

    Returns:
        How many were not there already; -1 if somebody else moves blocks the other way.
    """
    arguments = seen.arguments() | {"width": width, "returning": returning, "last": int(last)}
    return _answer(run(store, "move", meta, arguments, blocks))


def _answer(reply: list[Any] | None) -> Answer[Any] | None:
    return None if reply is None else Answer(*reply)
