"""The collections of a store: what each is made for, and how one is found or begun."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from simdist.errors import CollectionError, LayoutError, UsageError
from simdist.index.names import Names, checked_name, home_for, home_of, missing
from simdist.settings import MAX_PARTITIONS
from simdist.store import Store, layout, scripts, table_scripts
from simdist.store.connection import Argument
from simdist.store.damage import count_of, damaged
from simdist.vectors.codec import DTYPES

# Longest embedding: a block of such vectors is half of what Redis lets a string have.
MAX_DIM = 1 << 20
MAX_EXPECT = 10**15


@dataclass(frozen=True)
class Entry:
    """What a collection is made for, once and for all.

    Attributes:
        model: name of the model that makes the embeddings; `model_id` says exactly which.
        dim: length of an embedding.
        dtype: of stored vectors, "int8" or "float32".
        expect: images that it is to hold, roughly.
        uri_bits: see `layout.uri_bits`.
        version: of the layout.
        licence: of the model's weights; empty where nobody says.
        born: the first partition's mark; each that is made has one of its own.
    """

    model: str
    model_id: str
    dim: int
    dtype: str
    expect: int
    partitions: int
    uri_bits: int
    version: int = layout.VERSION
    licence: str = ""
    born: bytes = b""

    def measures(self) -> dict[str, int]:
        """What must be known to find all of its keys, once it is gone itself."""
        return {"partitions": self.partitions, "uri_bits": self.uri_bits, "dim": self.dim}


def find(store: Store, name: str, *, earlier: bool = False) -> tuple[str, Entry]:
    """The home and the entry of a collection.

    Args:
        earlier: also of one that has an earlier layout.

    Raises:
        UsageError: no collection can have that name.
        CollectionError: there is none of that name.
        LayoutError: it has another layout.
        StoreError: its entry is damaged.
    """
    home = home_of(store, name)
    meta = home and store.call("HGETALL", layout.Keys(home).meta)
    if not home or not meta:
        raise missing_now(store, name)
    return home, _entry(name, home, meta, earlier=earlier)


def ensure(store: Store, name: str, entry: Entry) -> tuple[str, Entry]:
    """Begin a collection unless there is one of that name already; its home and entry either way.

    Raises:
        UsageError, CollectionError, StoreError: as `find`; or a number of partitions, or a
            dimension, that no collection has.
    """
    checked_name(name)
    require_room(store, entry)
    # Somebody may drop or rename it meanwhile: then it is begun once more, elsewhere.
    while True:
        home = home_for(store, name)
        found = begin(store, name, home, entry)
        if home_of(store, name) == home:
            return home, found


def require_room(store: Store, entry: Entry) -> None:
    """Check that a store may hold such a collection.

    Raises:
        UsageError, StoreError: as `ensure`.
    """
    store.keeping.require_memory()
    store.keeping.warn_of_forgetting()
    if not 1 <= entry.partitions <= MAX_PARTITIONS:
        raise UsageError(f"a collection has 1 to {MAX_PARTITIONS} partitions")
    if not 1 <= entry.dim <= MAX_DIM:
        raise UsageError(f"an embedding has 1 to {MAX_DIM} dimensions")


def begin(store: Store, name: str, home: str, entry: Entry) -> Entry:
    """Make the partitions of a home, unless they are there; returns its entry either way."""
    born: dict[str, Argument] = {"born": secrets.token_hex(8)}
    # Partition 0 last: when it is there, all are.
    for partition in range(entry.partitions - 1, 0, -1):
        table_scripts.create(store, layout.Keys(home, partition).meta, born)
    fields = asdict(entry) | born
    meta = table_scripts.create(store, layout.Keys(home).meta, fields)
    store.call("SADD", layout.COLLECTIONS, home)
    found = _entry(name, home, meta)
    keep_searchable(store, home, found.partitions)
    return found


def keep_searchable(store: Store, home: str, partitions: int) -> None:
    """Let the servers have the scripts of a search, by running them for nothing.

    A user who only searches may run what is there, but not bring it; and a server forgets its
    scripts when it is started again.

    Raises:
        StoreError: they are not there, and this user may not bring them.
    """
    # As nobody who knows the partition: they do nothing.
    nobody = scripts.Seen(b"")
    for meta in store.one_a_server(layout.Keys(home, number).meta for number in range(partitions)):
        scripts.rows(store, meta, nobody, width=0, rows=b"")
        scripts.read(store, meta, nobody, generation=0, dead_known=0, limit=0, width=0, wanted=b"")
        digest = bytes(layout.PREFIX + layout.FIELD)
        scripts.find(store, meta, born=b"", uri_bits=0, width=0, digests=digest)


def missing_now(store: Store, name: str) -> CollectionError:
    """What is said where there is no collection of a name."""
    return missing(Names.read(store), name)


def names(store: Store) -> list[str]:
    """The names of all collections, sorted."""
    return list(Names.read(store).collections)


def _entry(name: str, home: str, meta: Mapping[bytes, bytes], *, earlier: bool = False) -> Entry:
    key = layout.Keys(home).meta

    def number(field: str, least: int, most: int) -> int:
        return count_of(meta.get(field.encode()), key, field, least=least, most=most)

    version = number("version", 0, layout.MAX_ROWS)
    if version != layout.VERSION and not (earlier and version < layout.VERSION):
        remedy = (
            "export it with the simdist that made it, then drop it here and import that; or drop "
            "it and ingest it anew"
            if version < layout.VERSION
            else "a newer simdist made it, use that"
        )
        raise LayoutError(
            f"the collection {name!r} has layout version {version}, this simdist reads "
            f"{layout.VERSION}: {remedy}"
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
        # For people only: nobody is to be kept from a collection by it.
        licence=meta.get(b"licence", b"").decode(errors="replace"),
        born=meta.get(b"born", b""),
    )


def _text(meta: Mapping[bytes, bytes], key: str, field: str) -> str:
    try:
        return meta[field.encode()].decode()
    except (KeyError, UnicodeDecodeError) as error:
        raise damaged(key, f"its {field} is not there, or not text") from error
