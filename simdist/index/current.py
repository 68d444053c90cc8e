"""What is stored of some images at this moment, so that only that is written over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simdist.index.batch import Batch
from simdist.index.partition import Partition
from simdist.index.scrolling import Choice
from simdist.store import layout
from simdist.store.records import Record, pack_record


def read_entries(partition: Partition, digests: NDArray[np.uint8]) -> list[bytes | None]:
    """The entries of images in the hashes of URIs, by (n, 14) digests; one round trip."""
    hashes = layout.uris_hashes(digests, partition.uri_bits).tolist()
    return partition.store.call_many(
        ("HGET", partition.keys.uris(number), digest[layout.PREFIX :].tobytes())
        for number, digest in zip(hashes, digests, strict=True)
    )


@dataclass(frozen=True)
class Current:
    """What is stored of some images.

    Attributes:
        digests: of their URIs.
        rows: (n,).
        fingerprints: (n, 8) digests.
        vectors: (n, width).
        moved: digests of images that somebody else has just written.
    """

    digests: list[bytes]
    rows: NDArray[np.uint32]
    fingerprints: NDArray[np.uint8]
    vectors: NDArray[np.uint8]
    records: list[Record]
    moved: list[bytes]

    @classmethod
    def read(cls, partition: Partition, digests: Sequence[bytes]) -> Current:
        """What there is of those with these digests now."""
        matrix = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), -1)
        entries = read_entries(partition, matrix)
        if not any(entries):
            # Of a collection that is gone nothing is found, which this says.
            partition.history.generations()
        known = [(digest, one) for digest, one in zip(digests, entries, strict=True) if one]
        rows = np.array([int.from_bytes(one[:4], "little") for _, one in known], layout.ROW_DTYPE)
        stored = partition.rows(rows)
        # One that died between the two has another row by now, or none.
        alive = [i for i, pair in enumerate(stored) if pair is not None]
        pairs = [pair for pair in stored if pair is not None]
        width, size = partition.codec.width, layout.FINGERPRINT
        return cls(
            [known[i][0] for i in alive],
            rows[alive],
            np.frombuffer(b"".join(known[i][1][4:] for i in alive), np.uint8).reshape(-1, size),
            np.array([vector for vector, _ in pairs], np.uint8).reshape(-1, width),
            [layout.unpack_record(record) for _, record in pairs],
            [known[i][0] for i, pair in enumerate(stored) if pair is None],
        )

    def chosen(self, choice: Choice) -> Current:
        """Those of them that are meant."""
        members = [i for i, record in enumerate(self.records) if choice.has(record)]
        if len(members) == len(self.records):
            return self
        return replace(
            self,
            digests=[self.digests[i] for i in members],
            rows=self.rows[members],
            fingerprints=self.fingerprints[members],
            vectors=self.vectors[members],
            records=[self.records[i] for i in members],
        )

    def batch(self, records: Sequence[Record], members: NDArray[np.intp]) -> Batch:
        """Some of them with other records, as long as they have these rows still."""
        names = np.frombuffer(b"".join(self.digests), np.uint8).reshape(len(self.digests), -1)
        return Batch(
            self.vectors[members],
            np.hstack([names, self.fingerprints])[members],
            [pack_record(record) for record in records],
            expected=self.rows[members],
        )
