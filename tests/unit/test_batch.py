"""Images on their way into the commit script."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist.index import batch
from simdist.index.batch import COMMIT_BATCH, Batch
from simdist.sources import ImageRef
from simdist.store import layout


def batch_of(names: list[int]) -> Batch:
    refs = [ImageRef(f"file:///{name}", str(i), 0, None) for i, name in enumerate(names)]
    packed = np.arange(len(names), dtype=np.uint8)[:, None].repeat(8, axis=1)
    return Batch.pack(packed, refs)


@settings(deadline=None)
@given(names=st.lists(st.integers(0, 9), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_no_part_repeats_a_uri_and_replacements_come_later(names: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    buckets = generator.integers(0, 4, (len(names), 1)).astype(np.uint32)
    left = np.flatnonzero(generator.random(len(names)) < 0.8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "COMMIT_BATCH", 5)
        commands = batch_of(names).commands(left, buckets, uri_bits=2, row=0)
        parts = [command.members.tolist() for command in commands]
    assert sorted(i for part in parts for i in part) == left.tolist()
    for part in parts:
        assert len({names[i] for i in part}) == len(part) <= 5
        assert np.all(np.diff(buckets[part, 0].astype(int)) >= 0)
    for name in set(names):
        order = [i for part in parts for i in part if names[i] == name]
        assert order == sorted(order)


def test_the_more_tables_the_fewer_images_at_once() -> None:
    whole = batch_of(list(range(600)))
    sizes = {}
    for tables in (1, 16):
        buckets = np.zeros((600, tables), np.uint32)
        commands = whole.commands(np.arange(600), buckets, uri_bits=0, row=0)
        sizes[tables] = [len(command.members) for command in commands]
        assert sum(sizes[tables]) == 600
    assert max(sizes[1]) == COMMIT_BATCH
    assert 0 < max(sizes[16]) < COMMIT_BATCH / 4


def test_script_arguments_are_in_the_order_of_the_hashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "COMMIT_BATCH", 12)
    left = np.random.default_rng(0).permutation(50)[:30]
    buckets = np.arange(100, dtype=np.uint32).reshape(50, 2)
    commands = list(batch_of(list(range(50))).commands(left, buckets, uri_bits=3, row=56))
    assert len(commands) > 3
    for command in commands:
        members, images = command.members, command.images(row=56)
        numbers, sizes = np.frombuffer(images.hashes, layout.ROW_DTYPE).reshape(-1, 2).T
        uris = [f"file:///{member}" for member in members]
        encoded = [uri.encode() for uri in uris]
        expected = [
            (digest[0] >> 5, digest[layout.PREFIX :]) for digest in map(layout.uri_digest, uris)
        ]
        order = np.frombuffer(images.positions, layout.ROW_DTYPE) - 1
        assert np.repeat(numbers, sizes).tolist() == [expected[i][0] for i in order]
        assert np.all(np.diff(numbers.astype(int)) > 0)
        assert images.fields == b"".join(expected[i][1] for i in order)
        of_all = layout.digests(encoded, [str(i) for i in members])
        assert images.fingerprints == of_all[order, layout.PREFIX + layout.FIELD :].tobytes()
        assert images.buckets == buckets[members].T.tobytes()
        # Rows 56 to 59 are the end of a block.
        assert [len(piece) // 8 for piece in images.vectors] == [
            4,
            *[len(members) - 4][: len(members) > 4],
        ]
        assert np.frombuffer(b"".join(images.vectors), np.uint8)[::8].tolist() == members.tolist()
        whole = layout.pack_records(
            encoded, [None] * len(uris), [{}] * len(uris), [b""] * len(uris), [b""] * len(uris)
        )
        assert images.records == b"".join(whole)
        assert np.frombuffer(images.lengths, layout.ROW_DTYPE).tolist() == [
            len(one) for one in whole
        ]
