"""Bytes in Redis: what goes in comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simdist.errors import VectorError
from simdist.store import layout
from simdist.vectors import checked, normalised

TEXT = st.text(st.characters(codec="utf-8"), max_size=50)


@given(
    uri=TEXT,
    label=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, st.integers() | TEXT, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_records_round_trip(
    uri: str, label: str | None, metadata: dict[str, Any], seed: int
) -> None:
    vector = np.random.default_rng(seed).standard_normal(24).astype(np.float32)
    values, scales = layout.quantise(vector[None])
    packed = layout.pack_record(values[0], scales[0], uri=uri, label=label, metadata=metadata)
    record = layout.unpack_record(packed, dim=24, dtype=np.dtype(np.int8))
    assert (record.uri, record.label, record.metadata) == (uri, label, metadata)
    assert record.vector @ vector / np.linalg.norm(vector) == pytest.approx(
        np.linalg.norm(vector), rel=1e-3
    )
    stored, restored_scales = layout.unpack_vectors([packed] * 3, dim=24, dtype=np.dtype(np.int8))
    np.testing.assert_array_equal(stored, np.repeat(values, 3, axis=0))
    np.testing.assert_array_equal(restored_scales, np.repeat(scales, 3))


def test_quantising_keeps_lengths_and_directions() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 512)).astype(np.float32)
    vectors *= np.logspace(-6, 6, 500, dtype=np.float32)[:, None]
    values, scales = layout.quantise(vectors)
    restored = values * scales[:, None]
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1), lengths, rtol=1e-5)
    cosines = np.einsum("nd,nd->n", normalised(vectors), normalised(restored))
    assert cosines.min() > 0.9998


def test_float32_records_are_exact() -> None:
    vector = np.random.default_rng(0).standard_normal(8).astype(np.float32)
    packed = layout.pack_record(vector, 1.0, uri="u", label=None, metadata={})
    record = layout.unpack_record(packed, dim=8, dtype=np.dtype(np.float32))
    np.testing.assert_array_equal(record.vector, vector)


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
