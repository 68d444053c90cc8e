"""Stored vectors: what goes in comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.vectors.checks import normalised
from simdist.vectors.codec import Codec, alive, wholes


def test_int8_keeps_directions() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 512)).astype(np.float32)
    vectors *= np.logspace(-6, 6, 500, dtype=np.float32)[:, None]
    codec = Codec.of("int8", 512)
    packed = codec.pack(vectors)
    assert packed.shape == (500, codec.width) == (500, 516)
    values, inverse_lengths = codec.unpack(packed)
    restored = values * inverse_lengths[:, None]
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1), 1, rtol=1e-5)
    assert np.einsum("nd,nd->n", normalised(vectors), restored).min() > 0.9998


def test_float32_is_exact() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    codec = Codec.of("float32", 8)
    values, inverse_lengths = codec.unpack(codec.pack(vectors))
    np.testing.assert_array_equal(values, vectors)
    np.testing.assert_allclose(inverse_lengths, 1 / np.linalg.norm(vectors, axis=1), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_rows_are_copied_as_wholes(dtype: type[np.int8 | np.float32]) -> None:
    """Also out of wider rows, as stored vectors lie behind their lengths, and into pages."""
    packed = np.random.default_rng(0).integers(0, 256, (5, 4 + 16), np.uint8)
    values = packed[:, 4:].view(dtype)
    pages: NDArray[Any] = np.zeros((4, 2, values.shape[1]), dtype)
    places = np.array([3, 0, 7, 2, 5])
    wholes(pages.reshape(8, -1))[places] = wholes(values)
    copied = pages.reshape(8, -1)
    assert copied[places].tobytes() == values.tobytes()
    assert not copied[[1, 4, 6]].any()
    assert wholes(packed)[places % 5].tobytes() == packed[places % 5].tobytes()


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_turning_can_be_undone(dtype: str) -> None:
    codec = Codec.of(dtype, 300)
    vectors = normalised(np.random.default_rng(0).standard_normal((20, 300)).astype(np.float32))
    restored = codec.turned_back(codec.restore(codec.pack(codec.turned(vectors))))
    assert np.einsum("nd,nd->n", vectors, restored).min() > 0.9998


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_only_zeros_are_not_alive(dtype: str) -> None:
    codec = Codec.of(dtype, 16)
    packed = codec.pack(np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32))
    packed[1] = 0
    assert alive(packed).tolist() == [True, False, True]
    assert codec.matrix(packed.tobytes()).tobytes() == packed.tobytes()
