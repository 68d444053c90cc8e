"""Bytes in Redis: what goes in comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist.store import layout

TEXT = st.text(st.characters(codec="utf-8"), max_size=50)


@settings(deadline=None)
@given(
    uri=TEXT,
    label=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, st.integers() | TEXT, max_size=3),
    place=st.binary(max_size=13),
    look=st.binary(max_size=300),
)
def test_records_round_trip(
    uri: str, label: str | None, metadata: dict[str, Any], place: bytes, look: bytes
) -> None:
    [packed] = layout.pack_records([uri.encode()], [label], [metadata], [place], [look])
    record = layout.unpack_record(packed)
    assert (record.uri, record.label, record.metadata) == (uri, label, metadata)
    assert (record.place, record.look) == (place, look)


def test_records_of_a_block_without_those_that_are_dead() -> None:
    records = layout.pack_records(
        [b"file:///%d" % i for i in range(5)], [None] * 5, [{}] * 5, [b""] * 5, [b""] * 5
    )
    lengths = np.zeros(layout.BLOCK, layout.ROW_DTYPE)
    lengths[:5] = [len(record) for record in records]
    lengths[2] += 1 << 31
    found = layout.unpack_records(lengths.tobytes() + b"".join(records))
    assert found == [*records[:2], b"", *records[3:], *[b""] * (layout.BLOCK - 5)]
    assert layout.unpack_records(b"") == [b""] * layout.BLOCK


@pytest.mark.parametrize(
    ("images", "bits"), [(0, 0), (25_000, 9), (500_000, 13), (10**6, 14), (10**12, 24)]
)
def test_uri_hashes_are_small_and_of_a_bounded_number(images: int, bits: int) -> None:
    assert layout.uri_bits(images) == bits


def test_partitions_share_images_evenly_and_apart_from_their_uri_hashes() -> None:
    digests = [layout.uri_digest(f"file:///{i}.jpg") for i in range(4000)]
    counts = np.bincount([layout.partition_of(digest, 4) for digest in digests], minlength=4)
    assert counts.min() > 900
    slots = {digest[0] for digest in digests if layout.partition_of(digest, 4) == 3}
    assert len(slots) > 200
