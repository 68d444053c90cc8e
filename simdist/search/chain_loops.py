"""The compiled loops of a search over chains of rows. They hold no lock.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.search.bucket_loops import find_bucket
from simdist.vectors.codec import INVERSE_LENGTH
from simdist.vectors.compiled import compiled
from simdist.vectors.headers import fetch
from simdist.vectors.products import dot_bytes, dot_codes

_SUMS = {"reassoc", "contract", "nsz"}
# What a score may be wrong by, as floats are added.
_AHEAD = 3
# So few of the best are compared one by one.
_LINEAR = 32
_UNSURE = np.float32(1e-5)


class Query(NamedTuple):
    """A query, exact and rounded.

    Attributes:
        exact: (d,) float32, of length 1.
        whole: (`products.padded_width`,) int16, the same in bytes.
        step: by what these are to be multiplied.
        lost: the length of what was lost by it.
    """

    exact: NDArray[np.float32]
    whole: NDArray[np.int16]
    step: np.float32
    lost: np.float32


# `row`: its number. `inverse_length`: 1 / that of its vector; of a code its factor.
ROW = np.dtype([("row", "u4"), ("inverse_length", "f4")])


class Chains(NamedTuple):
    """Rows, those of a bucket in a chain.

    Attributes:
        leaps: (n,) int32, how far the next row of a chain is from where it is as a rule, behind
            this one. A worker that drops nothing has zeros only, which take no memory.
        rows: (n,) `ROW`.
        values: (n, d) int8 or float32; or (n, w) uint8, codes.
        bits: those of a code (`simdist.vectors.codes`), or 0.
    """

    leaps: NDArray[np.int32]
    rows: Any
    values: NDArray[Any]
    bits: int


@compiled(fastmath=_SUMS)
def cosine(
    query: NDArray[np.float32], values: NDArray[np.generic], inverse_length: np.float32
) -> np.float32:
    """The cosine of a query of length 1 and stored values."""
    total = np.float32(0)
    for i in range(query.shape[0]):
        total += query[i] * np.float32(values[i])
    return min(total * inverse_length, np.float32(1))


@compiled()
def _middles(whole: NDArray[np.int16], bits: int) -> tuple[np.float32, np.float32]:
    """What the middles of codes are: so many times the code, and the rest for a whole query."""
    step, total = 1 << (8 - bits), np.int64(0)
    for i in range(len(whole)):
        total += whole[i]
    return np.float32(step), np.float32((step / 2 - 128) * total)


@compiled()
def insert(
    row: np.uint32,
    score: np.float32,
    found: int,
    best_rows: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Put a row among the best, in its place; returns how many there are by then."""
    limit = best_rows.shape[0]
    slot, first = found, 0
    # Of many the place is found by halves.
    while slot - first > _LINEAR:
        middle = (first + slot) // 2
        if best_scores[middle] < score or (
            best_scores[middle] == score and best_rows[middle] > row
        ):
            slot = middle
        else:
            first = middle + 1
    while slot > first and (
        best_scores[slot - 1] < score
        or (best_scores[slot - 1] == score and best_rows[slot - 1] > row)
    ):
        slot -= 1
    # In several tables the same row is met more than once.
    if slot > 0 and best_scores[slot - 1] == score and best_rows[slot - 1] == row:
        return found
    if slot == limit:
        return found
    last: int = min(found, limit - 1)
    for i in range(last, slot, -1):
        best_rows[i] = best_rows[i - 1]
        best_scores[i] = best_scores[i - 1]
    best_rows[slot] = row
    best_scores[slot] = score
    return last + 1


@compiled()
def rank_chains(  # noqa: PLR0917
    query: Query,
    heads: NDArray[np.int32],
    sizes: NDArray[np.int32],
    chains: Chains,
    dead: NDArray[np.uint8],
    found: int,
    best_rows: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
) -> int:
    """Score candidates, and keep the best; returns how many there are by then.

    What cannot be among them is not scored exactly, or a score would take twice as long. Of codes
    the scores are estimates.

    Args:
        query: what they are compared with.
        heads, sizes: (buckets,) int32, where each bucket's first row is, and how many it has.
        chains: where they are.
        dead: (n,) uint8, a bit for each row that is deleted, or is not to be found; beyond it none
            is.
        found: how many of the best there are already.
        best_rows, best_scores: (limit,) uint32 and float32, the best so far: by falling cosine
            similarity, then by row; updated.
    """
    limit, width = best_rows.shape[0], chains.values.shape[1]
    bits, unsure = chains.bits, query.lost + _UNSURE
    in_bytes = chains.values.itemsize == 1
    times, rest = _middles(query.whole, bits) if bits else (np.float32(0), np.float32(0))
    whole, start = query.whole.ctypes.data, chains.values.ctypes.data
    size, some_dead = width * chains.values.itemsize, dead.shape[0] > 0
    for bucket in range(min(_AHEAD, heads.shape[0])):
        fetch(start + heads[bucket] * size, size)
    for bucket in range(heads.shape[0]):
        at, left = np.int64(heads[bucket]), sizes[bucket]
        if bucket + _AHEAD < heads.shape[0]:
            fetch(start + heads[bucket + _AHEAD] * size, size)
        while left > 0:
            here, at, left = at, at + 1 + chains.leaps[at], left - 1
            if left > 0:
                fetch(start + at * size, size)
            row = chains.rows[here].row if some_dead else np.uint32(0)
            if some_dead and row >> 3 < dead.shape[0] and (dead[row >> 3] >> (row & 7)) & 1:
                continue
            inverse_length = chains.rows[here].inverse_length
            if bits:
                product = np.float32(dot_codes(whole, start + here * width, width, bits))
                score = (times * product + rest) * query.step * inverse_length
            else:
                if in_bytes and found == limit:
                    product = np.float32(dot_bytes(whole, start + here * width, width))
                    # A row's length is 1: what the query lost makes no greater difference.
                    if query.step * product * inverse_length + unsure < best_scores[limit - 1]:
                        continue
                score = cosine(query.exact, chains.values[here], inverse_length)
            if found == limit and score < best_scores[limit - 1]:
                continue
            found = insert(chains.rows[here].row, score, found, best_rows, best_scores)
    return found


DONE, NO_ROOM, GAP = 0, 1, 2


class Tails(NamedTuple):
    """What is to be appended to b buckets.

    Attributes:
        places: (b,) int64, which: see `bucket_loops.BUCKET`.
        starts, known: (b,) int64, how much of each its reader had, and has from now on.
        epochs: (b,) int64, as of which each is complete with it; -1 for one that is not.
        ends: (b,) int64, where its rows end among all.
        rows: (n,) uint32.
        inverse_lengths: (n,) float32, or factors, as `ROW` has them.
        vectors: (n, width) uint8, as they are stored (`simdist.vectors.codec`), or as codes.
    """

    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    known: NDArray[np.int64]
    epochs: NDArray[np.int64]
    ends: NDArray[np.int64]
    rows: NDArray[np.uint32]
    inverse_lengths: NDArray[np.float32]
    vectors: NDArray[np.uint8]


@compiled()
def append_tails(  # noqa: PLR0917
    table: Any,
    chains: Chains,
    stock: NDArray[np.int64],
    tails: Tails,
    first: int,
    clock: int,
) -> tuple[int, int]:
    """Append to buckets, one after the other, as long as there is room.

    Args:
        table: (slots,) `bucket_loops.BUCKET`, half of them free at the least.
        stock: (4,) the first free row that was used before, of a chain, or -1; the first that
            never was; how many are free; and buckets in the table.
        first: the first of the tails to append.
        clock: the buckets have been used by now.

    Returns:
        The first that was not appended, and why: all are (`DONE`), there are too few free rows or
        slots (`NO_ROOM`), or something lies between what is here and it (`GAP`).
    """
    for i in range(first, len(tails.places)):
        slot, place = find_bucket(table, tails.places[i]), tails.places[i]
        begin = tails.ends[i - 1] if i else 0
        is_new = slot < 0
        if not is_new:
            # Not to be dropped for its own rows.
            table[slot].used = clock
        if tails.starts[i] != (0 if is_new else table[slot].known):
            return i, GAP
        if tails.ends[i] - begin > stock[2] or (is_new and 2 * stock[3] >= len(table)):
            return i, NO_ROOM
        if is_new:
            slot += len(table)
            bucket = table[slot]
            bucket.place, bucket.used = place + 1, clock
            bucket.first = bucket.last = -1
            bucket.size = 0
            stock[3] += 1
        table[slot].known, table[slot].epoch = tails.known[i], tails.epochs[i]
        _append_rows(table, slot, chains, stock, tails, begin, tails.ends[i])
    return len(tails.places), DONE


@compiled()
def _append_rows(  # noqa: PLR0917
    table: Any,
    slot: int,
    chains: Chains,
    stock: NDArray[np.int64],
    tails: Tails,
    begin: int,
    end: int,
) -> None:
    """Append these of the tails' rows to a bucket."""
    bucket, values = table[slot], chains.values.view(np.uint8)
    before = np.int64(bucket.last)
    for i in range(begin, end):
        at = stock[0]
        if at >= 0:
            stock[0] = at + 1 + chains.leaps[at]
        else:
            at = stock[1]
            stock[1] += 1
        if before < 0:
            bucket.first = at
        # What is there already is not written: so the memory of zeros is never touched.
        elif chains.leaps[before] != at - before - 1:
            chains.leaps[before] = at - before - 1
        chains.rows[at].row = tails.rows[i]
        chains.rows[at].inverse_length = tails.inverse_lengths[i]
        # Byte by byte: to compile what an assignment of slices may raise takes seconds.
        stored, target = tails.vectors[i], values[at]
        for j in range(target.shape[0]):
            target[j] = stored[INVERSE_LENGTH + j]
        before = at
    bucket.last = before
    bucket.size += end - begin
    stock[2] -= end - begin
