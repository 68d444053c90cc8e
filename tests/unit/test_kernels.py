"""The compiled loop against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simdist.search.chain_loops import ROW, Chains, Query, rank_chains
from simdist.vectors.compiled import compiled
from simdist.vectors.headers import headers
from simdist.vectors.loops import round_rows
from simdist.vectors.packing import LANES, pack_columns, unpack_columns
from simdist.vectors.products import (
    dot_bytes,
    dot_columns,
    padded_width,
    round_query,
)

DIM = 24


def by_numpy(
    query: NDArray[np.float32], values: NDArray[Any], rows: NDArray[np.uint32], dead: set[int]
) -> dict[int, float]:
    """The cosine of each row that is alive: the oracle."""
    stored = values.astype(np.float64)
    scores = stored @ query.astype(np.float64) / np.linalg.norm(stored, axis=1)
    return {int(row): float(s) for row, s in zip(rows, scores, strict=True) if row not in dead}


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 24), min_size=1, max_size=6),
    limit=st.integers(1, 40),
    repeated=st.booleans(),
    dead_share=st.sampled_from([0.0, 0.3, 1.0]),
)
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_best_of_some_buckets(
    *, dtype: type, seed: int, sizes: list[int], limit: int, repeated: bool, dead_share: float
) -> None:
    generator = np.random.default_rng(seed)
    total = sum(sizes)
    rows = generator.permutation(1000)[:total].astype(np.uint32)
    values: NDArray[Any] = generator.integers(-127, 128, (total, DIM)).astype(dtype)
    values[:, 0] = 100
    if repeated:
        # The same image in two tables, and equal images under several rows.
        rows[total // 2 :] = rows[: total - total // 2]
        values[total // 2 :] = values[: total - total // 2]
    query = generator.standard_normal(DIM).astype(np.float32)
    query /= np.linalg.norm(query)
    dead = {int(row) for row in rows if row % 100 < 100 * dead_share}
    bitmap = np.zeros(0 if not dead else max(dead) // 8 + 1, np.uint8)
    for row in dead:
        bitmap[row // 8] |= 1 << row % 8

    order = generator.permutation(total).astype(np.int32)
    leaps = np.zeros(total, np.int32)
    first, at = [], 0
    for size in sizes:
        chain = order[at : at + size]
        at += size
        first.append(int(chain[0]) if size else -1)
        leaps[chain[:-1]] = chain[1:] - chain[:-1] - 1
    lying, lying_values = np.empty(total, ROW), np.empty_like(values)
    lying["row"][order], lying_values[order] = rows, values
    lying["inverse_length"][order] = 1 / np.linalg.norm(values.astype(np.float32), axis=1)

    best_rows, best_scores = np.zeros(limit, np.uint32), np.zeros(limit, np.float32)
    all_rows = Chains(leaps, lying, lying_values, 0)
    chains = np.array(first, np.int32), np.array(sizes, np.int32)
    whole = np.empty(padded_width(DIM), np.int16)
    asked = Query(query, whole, *round_query(query, whole)[:2])
    found = rank_chains(asked, *chains, all_rows, bitmap, 0, best_rows, best_scores)
    wanted = by_numpy(query, values, rows, dead)
    best = best_rows[:found].tolist()
    assert len(set(best)) == found == min(limit, len(wanted))
    highest = sorted(wanted.values(), reverse=True)[:found]
    np.testing.assert_allclose(best_scores[:found], highest, atol=2e-6)
    np.testing.assert_allclose(best_scores[:found], [wanted[row] for row in best], atol=2e-6)
    listed = list(zip((-best_scores[:found]).tolist(), best, strict=True))
    assert listed == sorted(listed)
    # Of equal images those with the lowest rows are kept.
    images = {int(row): value.tobytes() for row, value in zip(rows, values, strict=True)}
    for row in best:
        equal = [other for other in wanted if images[other] == images[row] and other < row]
        assert set(equal) <= set(best)


@settings(deadline=None)
@given(count=st.integers(1, 5), dim=st.integers(1, 70), seed=st.integers(0, 99))
def test_rounding_equals_numpy(count: int, dim: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    # As they lie in Redis, behind their inverse lengths.
    packed = np.zeros((count, dim + 4), np.uint8)
    values, inverse_lengths = packed[:, 4:].view(np.int8), np.empty(count, np.float32)
    round_rows(rows, values, inverse_lengths)
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    # The product may be rounded otherwise by a hair, and a half then to the other side.
    assert np.abs(values - rows * (127 / peaks)).max() < 0.5 + 1e-4
    assert (np.abs(values).max(axis=1) == 127).all()
    lengths = np.linalg.norm(values.astype(np.float64), axis=1)
    np.testing.assert_allclose(inverse_lengths, 1 / lengths, rtol=1e-6)


@compiled()
def dot_rows(whole: NDArray[np.int16], rows: NDArray[np.int8], dots: NDArray[np.int64]) -> None:
    for i in range(len(rows)):
        row = rows.ctypes.data + i * rows.shape[1]
        dots[i] = dot_bytes(whole.ctypes.data, row, rows.shape[1])


@pytest.mark.parametrize("dim", [1, 7, 8, 31, 32, 33, 96, 100, 512, 1280])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_products_of_bytes(dim: int, count: int) -> None:
    generator = np.random.default_rng(dim)
    rows = generator.integers(-127, 128, (count, dim)).astype(np.int8)
    rows[0] = 127
    whole = np.zeros(padded_width(dim), np.int16)
    whole[:dim] = -127
    if count > 1:
        whole[:dim] = generator.integers(-127, 128, dim)
    wanted = rows.astype(np.int64) @ whole[:dim]
    dots = np.empty(count, np.int64)
    dot_rows(whole, rows, dots)
    np.testing.assert_array_equal(dots, wanted)
    packed = pack_columns(rows)
    np.testing.assert_array_equal(unpack_columns(packed)[:count, :dim], rows)
    products = np.empty(len(packed) * LANES, np.int32)
    dot_columns(whole, packed, 0, products)
    np.testing.assert_array_equal(products[:count], wanted)
    last = np.empty(LANES, np.int32)
    dot_columns(whole, packed, len(packed) - 1, last)
    np.testing.assert_array_equal(last, products[-LANES:])


@pytest.mark.parametrize("dim", [1, 24, 500])
def test_a_rounded_query_tells_what_it_has_lost(dim: int) -> None:
    query = np.random.default_rng(dim).standard_normal(dim).astype(np.float32)
    whole = np.empty(padded_width(dim), np.int16)
    step, lost, inverse_length = round_query(query, whole)
    values, inverse_lengths = np.empty((1, dim), np.int8), np.empty(1, np.float32)
    round_rows(query[None], values, inverse_lengths)
    assert (whole[:dim] == values[0]).all()
    assert not whole[dim:].any()
    assert inverse_length == pytest.approx(inverse_lengths[0], rel=1e-6)
    assert lost == pytest.approx(np.linalg.norm(query - step * values[0]), rel=1e-3, abs=1e-6)


def test_a_query_of_zeros_loses_nothing() -> None:
    whole = np.ones(padded_width(DIM), np.int16)
    assert round_query(np.zeros(DIM, np.float32), whole) == (0, 0, 0)
    assert not whole.any()


def test_headers_lead_to_whole_arrays_only() -> None:
    with pytest.raises(ValueError, match="gaps"):
        headers(np.zeros((4, 4))[:, 1:])
