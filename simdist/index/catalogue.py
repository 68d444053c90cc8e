"""The collections of a store: what each is made for, and how one is found or begun."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from simdist.errors import CollectionError, MissingCollectionError, Remedy, UsageError
from simdist.settings import MAX_PARTITIONS
from simdist.store import Store, layout, scripts, table_scripts
from simdist.store.connection import Argument
from simdist.store.damage import count_of, damaged
from simdist.vectors.codec import DTYPES

# Longest embedding: a block of such vectors is half of what Redis lets a string have.
MAX_DIM = 1 << 20
MAX_EXPECT = 10**15
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Entry:
    """What a collection is made for, once and for all.

    Attributes:
        model: name of the model that makes the embeddings; `model_id` says exactly which.
        dim: length of an embedding.
        dtype: of stored vectors, "int8" or "float32".
        expect: images that it is to hold, roughly.
        uri_bits: see `layout.uri_bits`.
        version: of the layout, one of `layout.READABLE`.
    """

    model: str
    model_id: str
    dim: int
    dtype: str
    expect: int
    partitions: int
    uri_bits: int
    version: int = layout.VERSION


def find(store: Store, name: str) -> Entry:
    """The entry of a collection.

    Raises:
        UsageError: no collection can have that name.
        CollectionError: there is none of that name, or a newer simdist made it.
        StoreError: its entry is damaged.
    """
    meta = store.call("HGETALL", layout.Keys(_checked_name(name)).meta)
    if not meta:
        raise _missing(store, name)
    return _entry(name, meta)


def ensure(store: Store, name: str, entry: Entry) -> Entry:
    """Begin a collection unless there is one of that name already; returns its entry either way.

    Raises:
        UsageError, CollectionError, StoreError: as `find`; or a number of partitions, or a
            dimension, that no collection has.
    """
    store.keeping.require_memory()
    store.keeping.warn_of_forgetting()
    if not 1 <= entry.partitions <= MAX_PARTITIONS:
        raise UsageError(f"a collection has 1 to {MAX_PARTITIONS} partitions")
    if not 1 <= entry.dim <= MAX_DIM:
        raise UsageError(f"an embedding has 1 to {MAX_DIM} dimensions")
    born: dict[str, Argument] = {"born": secrets.token_hex(8)}
    # Partition 0 last: when it is there, all are.
    for partition in range(entry.partitions - 1, 0, -1):
        table_scripts.create(store, layout.Keys(_checked_name(name), partition).meta, born)
    fields = born | asdict(entry)
    meta = table_scripts.create(store, layout.Keys(_checked_name(name)).meta, fields)
    store.call("SADD", layout.COLLECTIONS, name)
    found = _entry(name, meta)
    keep_searchable(store, name, found.partitions)
    return found


def renew(store: Store, name: str) -> None:
    """Say that a collection of an earlier layout has what only this one has, from now on."""
    store.call("HSET", layout.Keys(name).meta, "version", layout.VERSION)


def keep_searchable(store: Store, name: str, partitions: int) -> None:
    """Let the servers have the scripts of a search, by running them for nothing.

    A user who only searches may run what is there, but not bring it; and a server forgets its
    scripts when it is started again.

    Raises:
        StoreError: they are not there, and this user may not bring them.
    """
    # As nobody who knows the partition: they do nothing.
    nobody = scripts.Seen(b"")
    for meta in store.one_a_server(layout.Keys(name, number).meta for number in range(partitions)):
        scripts.rows(store, meta, nobody, width=0, rows=b"")
        scripts.read(store, meta, nobody, generation=0, dead_known=0, limit=0, width=0, wanted=b"")
        digest = bytes(layout.PREFIX + layout.FIELD)
        scripts.find(store, meta, born=b"", uri_bits=0, width=0, digest=digest)


def names(store: Store) -> list[str]:
    """The names of all collections, sorted."""
    return sorted(name.decode() for name in store.call("SMEMBERS", layout.COLLECTIONS))


def _entry(name: str, meta: Mapping[bytes, bytes]) -> Entry:
    key = layout.Keys(name).meta

    def number(field: str, least: int, most: int) -> int:
        return count_of(meta.get(field.encode()), key, field, least=least, most=most)

    version = number("version", 0, layout.MAX_ROWS)
    if version not in layout.READABLE:
        raise CollectionError(
            f"the collection {name!r} has layout version {version}, this simdist reads "
            f"{layout.VERSION}: use the simdist that made it, or ingest into another collection"
        )
    dtype = _text(meta, key, "dtype")
    if dtype not in DTYPES:
        raise damaged(key, f"its dtype cannot be {dtype[:40]!r}")
    return Entry(
        model=_text(meta, key, "model"),
        model_id=_text(meta, key, "model_id"),
        dim=number("dim", 1, MAX_DIM),
        dtype=dtype,
        expect=number("expect", 0, MAX_EXPECT),
        partitions=number("partitions", 1, MAX_PARTITIONS),
        uri_bits=number("uri_bits", 0, 8 * layout.PREFIX),
        version=version,
    )


def _text(meta: Mapping[bytes, bytes], key: str, field: str) -> str:
    try:
        return meta[field.encode()].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise damaged(key, f"its {field} is not there, or not text") from error


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a collection: use letters, digits, '.', '_' and '-', at most 64"
        )
    return name


def _missing(store: Store, name: str) -> CollectionError:
    # The names of others are not in the message, which callers of a service are shown.
    return MissingCollectionError(
        f"there is no collection {name!r}: ingest images into it first",
        others=tuple(names(store)),
        remedy=Remedy.INGEST,
        about=name,
    )
