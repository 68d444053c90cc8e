"""What a query worker keeps against a dictionary: no row is lost, moved, or mixed up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist.index.buckets import BucketTail
from simdist.search.bucket_loops import find_bucket
from simdist.search.kept import PAGE_ROWS, KeptBuckets
from simdist.vectors.codec import Codec

CODEC = Codec.of("int8", 4)
PAGE_BYTES = PAGE_ROWS * (CODEC.dim + 8) + 4
# Places whose hashes are all over, and some that differ in their upper half only.
PLACES = [*range(12), *(n << 33 for n in range(1, 12))]


def tail(start: int, rows: Sequence[int], *, known: int) -> BucketTail:
    numbers = np.array(rows, np.uint32)
    vectors = np.zeros((len(rows), CODEC.width), np.uint8)
    vectors[:, 4:8] = numbers[:, None].view(np.uint8).reshape(-1, 4)
    return BucketTail((0, 0), start, known, True, numbers, vectors)


def rows_of(kept: KeptBuckets, place: int) -> list[int] | None:
    """What is kept of a bucket, by its rows and by their vectors; None if nothing is."""
    slot = find_bucket(kept.table, place)
    if slot < 0:
        return None
    page, left, rows = kept.table[slot]["first"], kept.table[slot]["size"], []
    while left > 0:
        for at in range(min(left, PAGE_ROWS)):
            row = int(kept.pages.rows[page, at])
            assert kept.pages.values[page, at].view(np.uint32)[0] == row
            rows.append(row)
        page, left = kept.pages.following[page], left - PAGE_ROWS
    return rows


@settings(max_examples=200, deadline=None)
@given(
    pages=st.integers(1, 12),
    steps=st.lists(
        st.tuples(st.sampled_from(PLACES), st.integers(0, 3 * PAGE_ROWS), st.booleans()),
        max_size=60,
    ),
)
def test_buckets_grow_and_are_dropped_whole(pages: int, steps: list[tuple[int, int, bool]]) -> None:
    kept = KeptBuckets(CODEC, pages * PAGE_BYTES)
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
        fits = kept.append(place, tail(start, rows, known=start + count), epoch=1)
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
        total = sum(-(-len(some) // PAGE_ROWS) for some in model.values())
        assert total <= pages


def test_a_gap_is_not_kept() -> None:
    kept = KeptBuckets(CODEC, 64 * PAGE_BYTES)
    assert not kept.append(3, tail(2, [7], known=3), epoch=1)
    assert kept.append(3, tail(0, [5, 6], known=2), epoch=-1)
    assert kept.append(3, tail(2, [7], known=3), epoch=1)
    assert rows_of(kept, 3) == [5, 6, 7]


def test_thousands_of_buckets_are_found() -> None:
    kept = KeptBuckets(CODEC, 8000 * PAGE_BYTES)
    places = np.random.default_rng(0).choice(1 << 40, 5000, replace=False)
    for number, place in enumerate(places.tolist()):
        assert kept.append(place, tail(0, [number], known=1), epoch=1)
    known, epochs = kept.use(places)
    assert (known == 1).all()
    assert (epochs == 1).all()
    assert [rows_of(kept, place) for place in places.tolist()] == [[n] for n in range(5000)]
