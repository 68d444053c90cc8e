"""What a query worker keeps against a dictionary: no row is lost, moved, or mixed up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist.search.bucket_loops import find_bucket
from simdist.search.chain_loops import Tails
from simdist.search.kept import BESIDE, KeptBuckets
from simdist.vectors.codec import Codec

CODEC = Codec.of("int8", 4)
ROW_BYTES = CODEC.dim + BESIDE
# Places whose hashes are all over, and some that differ in their upper half only.
PLACES = [*range(12), *(n << 33 for n in range(1, 12))]


def tails(*some: tuple[int, int, Sequence[int]]) -> Tails:
    """Of each bucket its place, how much of it was known, and the rows that it has besides."""
    places, starts, rows = zip(*some, strict=True)
    counts = np.array([len(one) for one in rows])
    numbers = np.array([row for one in rows for row in one], np.uint32)
    vectors = np.zeros((len(numbers), CODEC.width), np.uint8)
    vectors[:, 4:8] = numbers[:, None].view(np.uint8).reshape(-1, 4)
    lengths = np.float32(1) / (1 + numbers.astype(np.float32))
    epochs = np.ones(len(places), np.int64)
    known, ends = np.array(starts) + counts, np.cumsum(counts)
    of_rows = numbers, lengths, vectors
    return Tails(np.array(places), np.array(starts), known, epochs, ends, *of_rows)


def rows_of(kept: KeptBuckets, place: int) -> list[int] | None:
    """What is kept of a bucket, by its rows and by their vectors; None if nothing is."""
    slot = find_bucket(kept.table, place)
    if slot < 0:
        return None
    at, rows = int(kept.table[slot]["first"]), []
    for _ in range(kept.table[slot]["size"]):
        row, inverse_length = kept.rows.rows[at].item()
        assert kept.rows.values[at].view(np.uint32)[0] == row
        assert inverse_length == np.float32(1) / np.float32(1 + row)
        rows.append(row)
        at += 1 + int(kept.rows.leaps[at])
    return rows


@settings(max_examples=200, deadline=None)
@given(
    limit=st.integers(1, 96),
    steps=st.lists(
        st.tuples(st.sampled_from(PLACES), st.integers(0, 24), st.booleans()), max_size=60
    ),
)
def test_buckets_grow_and_are_dropped_whole(limit: int, steps: list[tuple[int, int, bool]]) -> None:
    kept = KeptBuckets(CODEC, limit * ROW_BYTES)
    model: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    row = 0
    for place, count, again in steps:
        if again:
            known, _ = kept.use(np.array([place]))
            assert known[0] == len(model.get(place, []))
            used[place] = kept.clock
        rows = list(range(row, row + count))
        row += count
        start = len(model.get(place, []))
        fits = not kept.append(tails((place, start, rows)))
        there = {other for other in model if find_bucket(kept.table, other) >= 0}
        # What this query has used is not dropped for more of it.
        assert all(other in there for other in model if used.get(other) == kept.clock)
        model = {other: model[other] for other in there if other != place or not fits} | (
            {place: model.get(place, []) + rows} if fits and (start == 0 or place in there) else {}
        )
        for other in PLACES:
            assert rows_of(kept, other) == model.get(other)
        if fits:
            used[place] = kept.clock
        assert sum(map(len, model.values())) <= limit


def test_a_gap_is_not_kept() -> None:
    kept = KeptBuckets(CODEC, 64 * ROW_BYTES)
    assert kept.append(tails((3, 2, [7]))) == [0]
    # Neither is one among others, which are.
    assert kept.append(tails((4, 0, [1]), (9, 1, [2]), (3, 0, [5, 6]))) == [1]
    assert kept.append(tails((3, 2, [7]))) == []
    assert rows_of(kept, 3) == [5, 6, 7]
    assert rows_of(kept, 4) == [1]
    assert rows_of(kept, 9) is None


def test_where_nothing_was_dropped_the_links_take_no_memory() -> None:
    kept = KeptBuckets(CODEC, 1000 * ROW_BYTES)
    kept.append(tails(*((place, 0, range(place, 2 * place)) for place in range(20))))
    assert not kept.rows.leaps.any()
    # The next rows of the first are behind those of the last.
    kept.append(tails((1, 1, [7, 8])))
    assert np.count_nonzero(kept.rows.leaps) == 1


def test_what_has_no_room_keeps_nothing_else_out() -> None:
    kept = KeptBuckets(CODEC, 10 * ROW_BYTES)
    assert kept.append(tails((1, 0, range(6)), (2, 0, range(6, 12)), (3, 0, [12, 13]))) == [1]
    assert [rows_of(kept, place) for place in (1, 2, 3)] == [[*range(6)], None, [12, 13]]


def test_thousands_of_buckets_are_found() -> None:
    kept = KeptBuckets(CODEC, 8000 * ROW_BYTES)
    places = np.random.default_rng(0).choice(1 << 40, 5000, replace=False)
    for start in range(0, 5000, 500):
        some = enumerate(places[start : start + 500].tolist(), start)
        assert kept.append(tails(*((place, 0, [number]) for number, place in some))) == []
    known, epochs = kept.use(places)
    assert (known == 1).all()
    assert (epochs == 1).all()
    assert [rows_of(kept, place) for place in places.tolist()] == [[n] for n in range(5000)]
