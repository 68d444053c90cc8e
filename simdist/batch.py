"""Images as `store/commit.lua` takes them, in the order that suits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Buckets
from simdist.sources.reference import ImageRef
from simdist.store import layout

# Images committed by one call of the script, if they go into one table: a stall of two or three
# milliseconds, of more if they replace others. Each further table takes half as long again.
COMMIT_BATCH = 512
_SHARE_OF_A_TABLE = 2


@dataclass(frozen=True)
class Batch:
    """Images that are to be committed.

    Attributes:
        packed: (n, width) uint8, their stored vectors (`layout.pack_vectors`).
        digests: (n, 22) uint8 (`layout.digests`).
        records: their records (`layout.pack_record`).
    """

    packed: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    records: Sequence[bytes]

    @classmethod
    def pack(
        cls,
        packed: NDArray[np.uint8],
        refs: Sequence[ImageRef],
        metadata: Sequence[Mapping[str, Any]],
    ) -> Batch:
        """Pack what belongs to stored vectors."""
        digests = layout.digests([ref.uri for ref in refs], [ref.fingerprint for ref in refs])
        records = [
            layout.pack_record(uri=ref.uri, label=ref.label, metadata=extra)
            for ref, extra in zip(refs, metadata, strict=True)
        ]
        return cls(packed, digests, records)

    def parts(self, left: NDArray[np.intp], buckets: Buckets) -> Iterator[NDArray[np.intp]]:
        """Divide images into those that one call of the script commits.

        In each no URI comes twice, and an image that replaces another comes later; those of a
        bucket are side by side, for then it is written once.

        Args:
            left: indices of the images.
            buckets: (n, tables) of all images.
        """
        tables = buckets.shape[1]
        size = COMMIT_BATCH * _SHARE_OF_A_TABLE // (_SHARE_OF_A_TABLE - 1 + tables)
        repeats = self._repeats()
        order = left[np.lexsort((buckets[left, 0], repeats[left]))]
        ends = np.flatnonzero(np.diff(repeats[order], append=-1)) + 1
        start = 0
        for end in ends.tolist():
            while start < end:
                yield order[start : min(start + size, end)]
                start = min(start + size, end)

    def arguments(
        self, members: NDArray[np.intp], buckets: Buckets, *, uri_bits: int
    ) -> list[bytes]:
        """What the script takes of some images, of which none have the same URI."""
        digests = self.digests[members]
        hashes = layout.uris_hashes(digests, uri_bits)
        order = np.argsort(hashes, kind="stable")
        digests = digests[order]
        records = [self.records[i] for i in members.tolist()]
        numbers = [
            np.column_stack(np.unique(hashes, return_counts=True)),
            order + 1,
            buckets[members].T,
            [len(record) for record in records],
        ]
        groups, places, columns, lengths = (
            np.asarray(array, layout.ROW_DTYPE).tobytes() for array in numbers
        )
        fields, fingerprints = np.hsplit(digests[:, layout.PREFIX :], [layout.FIELD])
        return [
            *(groups, fields.tobytes(), fingerprints.tobytes(), places),
            *(columns, self.packed[members].tobytes(), lengths, b"".join(records)),
        ]

    def _repeats(self) -> NDArray[np.intp]:
        """(n,) how many of the images before it have the same URI."""
        count = len(self.digests)
        # Equal digests start equally: mostly that is all there is to look at.
        starts = np.sort(np.ascontiguousarray(self.digests[:, :8]).view(np.uint64), axis=0)
        if (starts[1:] != starts[:-1]).all():
            return np.zeros(count, np.intp)
        uris = [digest.tobytes() for digest in self.digests[:, : layout.PREFIX + layout.FIELD]]
        met: Counter[bytes] = Counter()
        repeats = []
        for uri in uris:
            repeats.append(met[uri])
            met[uri] += 1
        return np.array(repeats)
