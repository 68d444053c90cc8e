"""The server-side scripts that make, replace and repair hash tables, as typed functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from simdist.store.connection import Argument, Store
from simdist.store.lua_source import random_tip, run


def create(store: Store, meta: str, fields: Mapping[str, Argument]) -> dict[bytes, bytes]:
    """Create a partition unless it exists; returns all fields of its state either way."""
    rest = [part for pair in fields.items() for part in pair]
    reply = run(store, "create", meta, {}, rest)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def fit(
    store: Store, meta: str, *, born: bytes, generation: int, images: int, family: bytes
) -> None:
    """Give a partition its first hash family; if it has one by now, that one stays.

    Args:
        generation: of its tables.
        images: how many the family was fitted on.
    """
    arguments: dict[str, Argument] = {
        "born": born,
        "generation": generation,
        "images": images,
        "family": family,
    }
    run(store, "fit", meta, arguments)


def rehash_start(
    store: Store, meta: str, *, generation: int, following: int, images: int, family: bytes
) -> None:
    """Start new tables beside those of a generation, unless that is replaced or done already.

    Args:
        following: the generation of the new tables.
        images: how many the new family was fitted for.
    """
    arguments: dict[str, Argument] = {
        "generation": generation,
        "following": following,
        "images": images,
        "family": family,
    }
    run(store, "rehash_start", meta, arguments)


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
    run(store, "rehash_fill", meta, arguments)


def rehash_finish(store: Store, meta: str, *, following: int) -> bool:
    """Switch to the new tables once they are filled; whether this call did."""
    arguments: dict[str, Argument] = {"following": following, "tip": random_tip()}
    return bool(run(store, "rehash_finish", meta, arguments))


def drop(
    store: Store, meta: str, *, generation: int, tables: int, first: int = 0, end: int = 0
) -> bool:
    """Remove buckets of a generation that is retired, and what is left of it if none are named.

    Args:
        tables: how many it has.
        first, end: buckets from the one on, before the other.

    Returns:
        Whether it is retired: where Redis has gone back in time, it may be in use again.
    """
    arguments: dict[str, Argument] = {
        "generation": generation,
        "tables": tables,
        "first_bucket": first,
        "end_bucket": end,
    }
    return bool(run(store, "drop", meta, arguments))


def trim(store: Store, meta: str, *, generation: int, tables: int, first: int, end: int) -> bool:
    """Write buckets anew: a string that has grown takes up to twice what it needs.

    Args:
        generation: of the tables; nothing is done where others are in use.
        tables: how many these are.
        first, end: buckets from the one on, before the other.

    Returns:
        Whether these are in use.
    """
    arguments: dict[str, Argument] = {
        "generation": generation,
        "tables": tables,
        "first_bucket": first,
        "end_bucket": end,
    }
    return bool(run(store, "trim", meta, arguments))


def repair(
    store: Store, meta: str, *, born: bytes, epoch: bytes, commands: Sequence[Sequence[Argument]]
) -> bool:
    """Run commands on keys of a partition, unless there were changes since its epoch was read, or
    it is gone, or was made anew.

    Every reader drops what it has read, and every writer is told once that images were lost.

    Args:
        born, epoch: the fields as they are stored; empty if they are not there.
        commands: name, key less what all keys of the partition begin with, other words.
    """
    rest = [word for command in commands for word in (len(command), *command)]
    arguments: dict[str, Argument] = {"born": born, "epoch": epoch, "tip": random_tip()}
    return bool(run(store, "repair", meta, arguments, rest))
