"""Codes of vectors, and what they say of scores, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.search.chain_loops import Query, rank_chains
from simdist.search.kept import as_chain
from simdist.vectors.codec import INVERSE_LENGTH, Codec
from simdist.vectors.codes import BITS, Codes
from simdist.vectors.compiled import compiled
from simdist.vectors.products import dot_codes, padded_width, round_query


@compiled()
def dot_rows(
    whole: NDArray[np.int16], rows: NDArray[np.uint8], bits: int, dots: NDArray[np.int64]
) -> None:
    for i in range(len(rows)):
        row = rows.ctypes.data + i * rows.shape[1]
        dots[i] = dot_codes(whole.ctypes.data, row, rows.shape[1], bits)


def stored(count: int, dim: int, seed: int) -> tuple[Codec, NDArray[np.uint8]]:
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    codec = Codec.of("int8", dim)
    return codec, codec.pack(vectors)


def asked(dim: int, seed: int) -> Query:
    query = np.random.default_rng(seed + 1).standard_normal(dim).astype(np.float32)
    query /= np.linalg.norm(query)
    whole = np.empty(padded_width(dim), np.int16)
    return Query(query, whole, *round_query(query, whole)[:2])


@settings(deadline=None, max_examples=50)
@given(dim=st.integers(1, 600), seed=st.integers(0, 99))
@pytest.mark.parametrize("bits", BITS)
def test_codes_are_the_upper_bits(bits: int, dim: int, seed: int) -> None:
    codec, packed = stored(5, dim, seed)
    # A row whose image was deleted.
    packed[2] = 0
    codes = Codes.of(codec, bits)
    coded = codes.pack(packed)
    assert coded.shape == (5, codes.width)
    assert not coded[2].any()
    values, inverse_lengths = codec.unpack(packed)
    upper = values.astype(np.int64) >> (8 - bits)
    alive = [0, 1, 3, 4]

    query = asked(dim, seed)
    dots, rows = np.empty(5, np.int64), np.ascontiguousarray(coded[:, INVERSE_LENGTH:])
    dot_rows(query.whole, rows, bits, dots)
    wanted = (upper + (1 << (bits - 1))) @ query.whole[:dim].astype(np.int64)
    assert dots[alive].tolist() == wanted[alive].tolist()

    middles = (2 * upper + 1) * (1 << (8 - bits)) / 2
    lengths = 1 / inverse_lengths[alive]
    factors = lengths / np.einsum("nd,nd->n", values.astype(np.float64), middles)[alive]
    np.testing.assert_allclose(codes.unpack(coded)[1][alive], factors, rtol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_the_best_by_codes_are_those_of_the_estimates(bits: int) -> None:
    codec, packed = stored(300, 512, 0)
    codes, query = Codes.of(codec, bits), asked(512, 0)
    rows = np.arange(300, dtype=np.uint32)
    chain = as_chain(rows, codes.pack(packed), codes)
    dead = np.zeros(38, np.uint8)
    dead[5] = 0xFF
    best_rows, best_scores = np.empty(40, np.uint32), np.empty(40, np.float32)
    whole = np.zeros(1, np.int32), np.array([300], np.int32)
    found = rank_chains(query, *whole, chain, dead, 0, best_rows, best_scores)

    values, inverse_lengths = codec.unpack(packed)
    upper = (values.astype(np.int64) >> (8 - bits)).astype(np.float64)
    middles = (2 * upper + 1) * (1 << (8 - bits)) / 2
    rounded = query.whole[:512].astype(np.float64) * float(query.step)
    estimates = (middles @ rounded) * codes.unpack(codes.pack(packed))[1]
    alive = np.setdiff1d(rows, np.arange(40, 48))
    wanted = alive[np.argsort(-estimates[alive], kind="stable")][:40]
    assert found == 40
    assert best_rows.tolist() == wanted.tolist()
    np.testing.assert_allclose(best_scores, estimates[wanted], atol=1e-5)
    # And what they are estimates of.
    exact = (values @ query.exact) * inverse_lengths
    assert np.abs(estimates - exact).std() < {4: 0.01, 2: 0.03, 1: 0.05}[bits]


def test_what_has_no_codes_is_refused() -> None:
    with pytest.raises(StoreError, match="3 bits"):
        Codes.of(Codec.of("int8", 64), 3)
    with pytest.raises(StoreError, match="no codes"):
        Codes.of(Codec.of("float32", 64), 4)


def test_a_factor_that_is_no_number_is_damage() -> None:
    codec, packed = stored(2, 64, 0)
    codes = Codes.of(codec, 4)
    coded = codes.pack(packed)
    codes.check(coded)
    coded[1, :INVERSE_LENGTH] = np.array([np.nan], "<f4").view(np.uint8)
    with pytest.raises(StoreError, match="no number"):
        codes.check(coded)
