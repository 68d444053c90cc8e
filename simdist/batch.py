"""Images as `store/commit.lua` takes them, in the order that suits it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        uris = [ref.uri.encode() for ref in refs]
        digests = layout.digests(uris, [ref.fingerprint for ref in refs])
        labels = [ref.label for ref in refs]
        return cls(packed, digests, layout.pack_records(uris, labels, metadata))

    def commands(
        self, left: NDArray[np.intp], buckets: Buckets, *, uri_bits: int
    ) -> Iterator[Command]:
        """Divide images into those that one call of the script commits.

        In each call no URI comes twice, and an image that replaces another comes later; those of
        a bucket are side by side, for then it is written once.

        Args:
            left: indices of the images.
            buckets: (n, tables) of all images.
        """
        order, bounds = self._parts(left, buckets)
        # For all calls at once: NumPy's overhead is as much as what it does for one.
        uris = self._uris(order, bounds, uri_bits)
        columns, vectors = buckets[order], layout.wholes(self.packed)
        records = [self.records[i] for i in order.tolist()]
        lengths = _numbers([len(record) for record in records])
        for (start, end), (first, last) in zip(
            pairwise(bounds.tolist()), pairwise(uris.bounds), strict=True
        ):
            here, members = slice(start, end), order[start:end]
            arrays: list[NDArray[Any]] = [
                *(uris.hashes[first:last], uris.fields[here], uris.states[here]),
                *(uris.places[here], columns[here].T, lengths[here]),
            ]
            arguments = [array.tobytes() for array in arrays]
            yield Command(members, [*arguments, b"".join(records[here])], vectors[members])

    def _uris(
        self, order: NDArray[np.intp], bounds: NDArray[np.intp], uri_bits: int
    ) -> _UriArguments:
        """For each call of the script the images by their `uris` hash."""
        call = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        digests = self.digests[order]
        hashes = layout.uris_hashes(digests, uri_bits)
        by_hash = np.lexsort((hashes, call))
        digests, hashes = digests[by_hash], hashes[by_hash]
        fields, states = np.hsplit(digests[:, layout.PREFIX :], [layout.FIELD])
        changes = (np.diff(hashes, prepend=-1) != 0) | (np.diff(call, prepend=-1) != 0)
        firsts = np.flatnonzero(changes)
        counts = np.diff(firsts, append=len(order))
        return _UriArguments(
            _numbers(np.column_stack([hashes[firsts], counts])),
            np.searchsorted(firsts, bounds).tolist(),
            fields,
            states,
            _numbers(by_hash - bounds[call] + 1),
        )

    def _parts(
        self, left: NDArray[np.intp], buckets: Buckets
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The images in the order in which they are committed, and where the calls start."""
        tables = buckets.shape[1]
        size = COMMIT_BATCH * _SHARE_OF_A_TABLE // (_SHARE_OF_A_TABLE - 1 + tables)
        repeats = self._repeats()
        order = left[np.lexsort((buckets[left, 0], repeats[left]))]
        ends = np.flatnonzero(np.diff(repeats[order], append=-1)) + 1
        bounds = [0]
        for end in ends.tolist():
            bounds += [*range(bounds[-1] + size, end, size), end]
        return order, np.array(bounds)

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


@dataclass(frozen=True)
class Command:
    """What one call of the script commits.

    Attributes:
        members: (n,) which images.
        vectors: (n,) their stored vectors, each a whole.
    """

    members: NDArray[np.intp]
    _arguments: list[bytes]
    vectors: NDArray[np.void]

    def arguments(self, row: int) -> list[bytes]:
        """What the script takes of them; it takes least time if the first gets this row."""
        cuts = range(layout.BLOCK - row % layout.BLOCK, len(self.vectors), layout.BLOCK)
        pieces = np.split(self.vectors, cuts)
        return [*self._arguments, *(piece.tobytes() for piece in pieces)]


@dataclass(frozen=True)
class _UriArguments:
    """What the script takes of the URIs, for all calls.

    Attributes:
        hashes: (hashes, 2) uint32: a `uris` hash, and how many of a call's images belong into it.
        bounds: where in `hashes` the calls start, and the end.
        fields, states: (n, 11) and (n, 8) uint8, of the digests.
        places: (n,) uint32, the images' places in their call, from 1 on.
    """

    hashes: NDArray[np.uint32]
    bounds: list[int]
    fields: NDArray[np.uint8]
    states: NDArray[np.uint8]
    places: NDArray[np.uint32]


def _numbers(values: ArrayLike) -> NDArray[np.uint32]:
    return np.asarray(values).astype(layout.ROW_DTYPE)
