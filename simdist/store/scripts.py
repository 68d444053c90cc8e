"""The server-side scripts, each as a function with typed arguments.

A script is `lua/<name>.lua` behind what is put in front of it here: the numbers of `layout`, a
local variable for each argument under the name that it has in Python, and the parts that scripts
share. So the order of the arguments is written once, and Lua repeats no number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from simdist.store import layout
from simdist.store.connection import Argument, Script, Store

# While a cluster moves a partition to another node, some keys are here and some there: a script
# would break off half done, or take for new what it does not see. Two keys that never exist make
# the server refuse it before it has done anything.
_ALL_KEYS_HERE = "redis.call('EXISTS', KEYS[1] .. ':no', KEYS[1] .. ':none')"
_ROW = layout.ROW_DTYPE.itemsize
_NUMBERS = {
    "BLOCK": layout.BLOCK,
    "PREFIX": layout.PREFIX,
    "FIELD": layout.FIELD,
    "DIGEST": layout.PREFIX + layout.FIELD,
    "FINGERPRINT": layout.FINGERPRINT,
    "ROW": _ROW,
    "ENTRY": _ROW + layout.FINGERPRINT,
    # Bytes of the lengths in front of a block's records.
    "LENGTHS": layout.BLOCK * _ROW,
    "DEAD": layout.DEAD,
}


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
        hashes: u32 pairs: a `uris` hash, and how many of the images belong to it.
        fields: the fields of the images, in the order of the hashes.
        fingerprints: the digests of their fingerprints, in the same order.
        positions: u32: which image of the batch each of these is, from 1 on.
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
    buckets: bytes
    lengths: bytes
    records: bytes
    vectors: Sequence[bytes]


def create(store: Store, meta: str, fields: Mapping[str, Argument]) -> dict[bytes, bytes]:
    """Create a partition unless it exists; returns all fields of its state either way."""
    rest = [part for pair in fields.items() for part in pair]
    reply = _run(store, "create", meta, {}, rest)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def fit(store: Store, meta: str, *, images: int, family: bytes) -> None:
    """Give a partition its first hash family; if it has one by now, that one stays.

    Args:
        images: how many the family was fitted on.
    """
    _run(store, "fit", meta, {"images": images, "family": family})


def known(store: Store, meta: str, *, uri_bits: int, digests: bytes) -> bytes:
    """Which images are indexed with this content: a character '0' or '1' for each.

    Args:
        digests: `layout.digests`, end to end.
    """
    answer: bytes = _run(store, "known", meta, {"uri_bits": uri_bits, "digests": digests})
    return answer


def delete(store: Store, meta: str, *, uri_bits: int, width: int, digests: bytes) -> int:
    """Delete images; returns how many there were.

    Args:
        width: bytes of a stored vector.
        digests: `layout.uri_digest` of each, end to end.
    """
    arguments: dict[str, Argument] = {"uri_bits": uri_bits, "width": width, "digests": digests}
    return int(_run(store, "delete", meta, arguments))


def read(
    store: Store,
    meta: str,
    *,
    generation: int,
    dead_known: int,
    limit: int,
    width: int,
    born: bytes,
    wanted: bytes,
) -> list[Any] | None:
    """Read what buckets hold beyond what the reader has, and which rows have died since.

    Args:
        dead_known: how many dead rows the reader knows.
        limit: rows to read at most.
        width: bytes of a stored vector.
        born: the partition's mark.
        wanted: u32 triples of table, bucket, and how much of it the reader has.

    Returns:
        The epoch; u32 rows that died; then for each bucket, until the limit is reached, a list of
        its u32 rows end to end and their stored vectors in strings of one or more. None if the
        partition has another generation by now, or was made anew.
    """
    arguments: dict[str, Argument] = {
        "generation": generation,
        "dead_known": dead_known,
        "limit": limit,
        "width": width,
        "born": born,
        "wanted": wanted,
    }
    reply: list[Any] | None = _run(store, "read", meta, arguments)
    return reply


def rows(store: Store, meta: str, *, width: int, rows: bytes) -> list[bytes]:
    """The stored vector and the record of each row, in turn; an empty record for a dead one.

    Args:
        width: bytes of a stored vector.
        rows: u32, end to end.
    """
    reply: list[bytes] = _run(store, "rows", meta, {"width": width, "rows": rows})
    return reply


def insert(
    store: Store, meta: str, tables: Tables, new: NewImages, *, row: int, replicas: int
) -> bool:
    """Commit a batch of which all images are new: all of it or nothing.

    Args:
        row: the row that the first image gets.
        replicas: how many must confirm it (`Store.run`).

    Returns:
        Whether it was written. It was not if an image is indexed already, if the first row would
        be another, or if the partition has other generations by now.
    """
    arguments: dict[str, Argument] = {
        "generation": tables.generation,
        "tables": tables.count,
        "following": tables.following,
        "first_row": row,
        "hashes": new.hashes,
        "entries": new.entries,
        "runs": new.runs,
        "rows": new.rows,
    }
    return bool(_run(store, "insert", meta, arguments, new.blocks, replicas=replicas))


def commit(
    store: Store, meta: str, tables: Tables, images: Images, *, force: bool, replicas: int
) -> bytes | None:
    """Commit a batch of images: all of it or nothing; committed again, it changes nothing.

    Args:
        force: replace also what is unchanged.
        replicas: how many must confirm it (`Store.run`).

    Returns:
        A character for each image: '=' unchanged, '+' added, '~' replaced; None if the partition
        has other generations by now.
    """
    arguments: dict[str, Argument] = {
        "generation": tables.generation,
        "tables": tables.count,
        "following": tables.following,
        "following_tables": tables.following_count,
        "force": int(force),
        "hashes": images.hashes,
        "fields": images.fields,
        "fingerprints": images.fingerprints,
        "positions": images.positions,
        "buckets": images.buckets,
        "lengths": images.lengths,
        "records": images.records,
    }
    answer: bytes | None = _run(store, "commit", meta, arguments, images.vectors, replicas=replicas)
    return answer


def rehash_start(store: Store, meta: str, *, generation: int, images: int, family: bytes) -> None:
    """Start new tables beside those of a generation, unless that is replaced or done already.

    Args:
        images: how many the new family was fitted for.
    """
    arguments: dict[str, Argument] = {"generation": generation, "images": images, "family": family}
    _run(store, "rehash_start", meta, arguments)


def rehash_fill(
    store: Store, meta: str, *, following: int, first: int, end: int, tables: int, postings: bytes
) -> None:
    """Put the rows from `first` to `end` into the new tables, unless another process has.

    Args:
        following: the generation of the new tables.
        tables: how many these are.
        postings: for each row u32: the row, and its bucket in each table.
    """
    arguments: dict[str, Argument] = {
        "following": following,
        "first": first,
        "end_row": end,
        "tables": tables,
        "postings": postings,
    }
    _run(store, "rehash_fill", meta, arguments)


def rehash_finish(store: Store, meta: str, *, following: int) -> bool:
    """Switch to the new tables once they are filled; whether this call did."""
    return bool(_run(store, "rehash_finish", meta, {"following": following}))


def _run(
    store: Store,
    name: str,
    meta: str,
    arguments: Mapping[str, Argument],
    rest: Sequence[Argument] = (),
    *,
    replicas: int = 0,
) -> Any:
    script = _script(name, tuple(arguments))
    return store.run(script, [meta], [*arguments.values(), *rest], replicas=replicas)


@cache
def _script(name: str, arguments: tuple[str, ...]) -> Script:
    parts = {"commit": ("bury", "blocks"), "delete": ("bury",), "insert": ("blocks",)}
    folder = resources.files("simdist.store").joinpath("lua")
    source = "\n".join(
        [
            _ALL_KEYS_HERE,
            *(f"local {number} = {value}" for number, value in _NUMBERS.items()),
            *(f"local {argument} = ARGV[{i}]" for i, argument in enumerate(arguments, 1)),
            # What has no name of its own comes behind the others.
            f"local REST = {len(arguments) + 1}",
            *(folder.joinpath(f"{part}.lua").read_text() for part in (*parts.get(name, ()), name)),
        ]
    )
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
