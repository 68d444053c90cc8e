"""Bytes in Redis: what goes in comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simdist.store import layout
from simdist.vectors.checks import normalised

TEXT = st.text(st.characters(codec="utf-8"), max_size=50)


@settings(deadline=None)
@given(
    uri=TEXT,
    label=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, st.integers() | TEXT, max_size=3),
)
def test_records_round_trip(uri: str, label: str | None, metadata: dict[str, Any]) -> None:
    [packed] = layout.pack_records([uri.encode()], [label], [metadata])
    record = layout.unpack_record(packed)
    assert (record.uri, record.label, record.metadata) == (uri, label, metadata)


def test_int8_keeps_directions() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 512)).astype(np.float32)
    vectors *= np.logspace(-6, 6, 500, dtype=np.float32)[:, None]
    packed = layout.pack_vectors(vectors, np.dtype(np.int8))
    assert packed.shape == (500, layout.vector_width(512, np.dtype(np.int8))) == (500, 516)
    values, inverse_lengths = layout.unpack_vectors(packed, np.dtype(np.int8))
    restored = values * inverse_lengths[:, None]
    np.testing.assert_allclose(np.linalg.norm(restored, axis=1), 1, rtol=1e-5)
    assert np.einsum("nd,nd->n", normalised(vectors), restored).min() > 0.9998


def test_float32_is_exact() -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    packed = layout.pack_vectors(vectors, np.dtype(np.float32))
    values, inverse_lengths = layout.unpack_vectors(packed, np.dtype(np.float32))
    np.testing.assert_array_equal(values, vectors)
    np.testing.assert_allclose(inverse_lengths, 1 / np.linalg.norm(vectors, axis=1), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_rows_are_copied_as_wholes(dtype: type[np.int8 | np.float32]) -> None:
    """Also out of wider rows, as stored vectors lie behind their lengths, and into pages."""
    packed = np.random.default_rng(0).integers(0, 256, (5, 4 + 16), np.uint8)
    values = packed[:, 4:].view(dtype)
    pages: NDArray[Any] = np.zeros((4, 2, values.shape[1]), dtype)
    places = np.array([3, 0, 7, 2, 5])
    layout.wholes(pages.reshape(8, -1))[places] = layout.wholes(values)
    copied = pages.reshape(8, -1)
    assert copied[places].tobytes() == values.tobytes()
    assert not copied[[1, 4, 6]].any()
    assert layout.wholes(packed)[places % 5].tobytes() == packed[places % 5].tobytes()


def test_records_of_a_block_without_those_that_are_dead() -> None:
    records = layout.pack_records([b"file:///%d" % i for i in range(5)], [None] * 5, [{}] * 5)
    lengths = np.zeros(layout.BLOCK, layout.ROW_DTYPE)
    lengths[:5] = [len(record) for record in records]
    lengths[2] += 1 << 31
    found = layout.unpack_records(lengths.tobytes() + b"".join(records))
    assert found == [*records[:2], b"", *records[3:], *[b""] * (layout.BLOCK - 5)]
    assert layout.unpack_records(b"") == [b""] * layout.BLOCK


@pytest.mark.parametrize(
    ("images", "bits"), [(0, 0), (25_000, 1), (500_000, 5), (10**6, 6), (10**12, 24)]
)
def test_uri_hashes_are_few_and_of_a_bounded_size(images: int, bits: int) -> None:
    assert layout.uri_bits(images) == bits


def test_partitions_share_images_evenly_and_apart_from_their_uri_hashes() -> None:
    digests = [layout.uri_digest(f"file:///{i}.jpg") for i in range(4000)]
    counts = np.bincount([layout.partition_of(digest, 4) for digest in digests], minlength=4)
    assert counts.min() > 900
    slots = {digest[0] for digest in digests if layout.partition_of(digest, 4) == 3}
    assert len(slots) > 200
