"""Vectors as they come from outside, and the rotation in which they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist.errors import VectorError
from simdist.vectors.checks import checked, normalised, usable
from simdist.vectors.rotation import rotated, unrotated


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0]], r"shape \(1, 2\)"),
        ([1.0, 2.0, 3.0], r"shape \(3,\)"),
        ([[1, 2, 3], [0, 0, 0], [1, np.nan, 0], [1, 1, np.inf]], "by index: 1, 2, 3"),
        ([[0, 0, 0]] * 20, r"8, 9, \.\.\."),
        ([["a", "b", "c"]], "must be numbers"),
        ([[1, 2, 3], [1, 2]], "must be numbers"),
    ],
)
def test_unusable_vectors_are_named(vectors: Any, message: str) -> None:
    with pytest.raises(VectorError, match=message):
        checked(vectors, dim=3)


def test_usable_vectors_can_be_normalised() -> None:
    rows = [[1, 2], [0, 0], [np.nan, 1], [np.inf, 1], [1e30, 1e30], [1e-30, 0], [-1e-6, 0]]
    vectors = np.array(rows, np.float32)
    # Squares that overflow or vanish make a length that says nothing.
    assert usable(vectors).tolist() == [True, False, False, False, False, False, True]
    assert np.isfinite(normalised(vectors[usable(vectors)])).all()


@settings(max_examples=50, deadline=None)
@given(dim=st.integers(1, 1300), seed=st.integers(0, 2**32 - 1))
def test_a_rotation_keeps_lengths_and_angles_and_can_be_undone(dim: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((4, dim)).astype(np.float32)
    turned = rotated(vectors)
    np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(unrotated(turned), vectors, atol=1e-5)


def test_no_feature_of_a_rotated_vector_stands_out() -> None:
    # As behind a ReLU: few features, some of them large.
    generator = np.random.default_rng(0)
    vectors = normalised((generator.random((100, 512)) ** 20).astype(np.float32))
    before, after = (np.abs(v).max(axis=1).mean() for v in (vectors, rotated(vectors)))
    assert after < 0.6 * before


def test_the_rotation_is_the_same_for_good() -> None:
    """What is stored depends on it."""
    turned = rotated(np.ones((1, 6), np.float32))
    np.testing.assert_allclose(turned, [[0, 0, 0, 2, 0, 2**0.5]], atol=1e-6)
