"""What a query worker has of a partition: buckets, read when they are first probed, then kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import NO_BUCKETS, OutdatedError, Reading
from simdist.index.partition import Partition
from simdist.search.kept import KeptBuckets, as_chain
from simdist.search.prepared import Prepared
from simdist.store.layout import epoch_of
from simdist.vectors.checks import checked
from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes

if TYPE_CHECKING:
    from simdist.search.chain_loops import Chains
    from simdist.search.query_loops import Batch

# Kinds of questions for which there is room ready: that takes twice as long as a search.
_ROOMS = 4


class Passing(NamedTuple):
    """What was read of a bucket that there is no room for.

    Attributes:
        place: which, see `bucket_loops.BUCKET`.
        rows: as one chain.
    """

    place: int
    rows: Chains


class BucketCache:
    """Buckets of one generation of one partition's tables.

    Attributes:
        moment: of the last reading.
        readings: how often something had to be read from Redis.
    """

    def __init__(self, partition: Partition, *, generation: int, memory: int) -> None:
        """An empty cache.

        Args:
            generation: of the tables.
            memory: bytes that it may take, in which it touches only what it fills.
        """
        from simdist.search import query_loops

        self.generation = generation
        self.moment = b""
        self.readings = 0
        self._loops = query_loops
        self._turning = query_loops.Turning(*partition.codec.turning())
        self._partition = partition
        self._family = partition.families.of(generation)
        self._memory = memory
        # As the first reading says.
        self._format: Codec | Codes = partition.codec
        self._kept = KeptBuckets(partition.codec, 0)
        self._dead = np.zeros(0, np.uint8)
        self._dead_known = 0
        self._epoch = -1
        self._rooms: dict[tuple[int, int, int], Prepared] = {}

    def sync(self) -> None:
        """Learn how many changes there are by now, and which rows have died; one round trip.

        Raises:
            OutdatedError: the tables have another generation.
        """
        self._read(NO_BUCKETS)

    @property
    def codes(self) -> Codes | None:
        """What is here in place of vectors, so that scores are estimates; or None."""
        return self._format if isinstance(self._format, Codes) else None

    @property
    def size(self) -> int:
        """Buckets of each table."""
        return self._family.size

    @property
    def tables(self) -> int:
        """How many there are."""
        return self._family.tables

    @property
    def count(self) -> int:
        """Buckets of all tables."""
        return self._family.size * self._family.tables

    @property
    def kept(self) -> KeptBuckets:
        """What is here."""
        return self._kept

    @property
    def epoch(self) -> int:
        """As of which buckets must be complete."""
        return self._epoch

    def excluded(self, rows: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """(n,) bool, rows that are not to be found -> a bit for each of them or of the dead."""
        bits = np.packbits(rows, bitorder="little")
        size = max(len(bits), len(self._dead))
        both: NDArray[np.uint8] = _padded(bits, size) | _padded(self._dead, size)
        return both

    def rank_all(self, vectors: NDArray[np.float32], n: int, chain: Chains) -> tuple[Batch, int]:
        """As `rank`, among the rows of one chain, in place of the buckets."""
        batch = self.begin(vectors, n)
        scored = sum(self.score_chain(chain, batch, i, self._dead) for i in range(len(vectors)))
        return batch, scored

    def begin(self, vectors: NDArray[np.float32], n: int) -> Batch:
        """Room for these queries, for which nothing is found yet."""
        room = self._room((len(vectors), n, 1))
        batch = room.batch
        batch.vectors[:] = vectors
        self._loops.turn(room.headers)
        if (batch.found == self._loops.UNUSABLE).any():
            checked(batch.vectors, dim=vectors.shape[1])
        self._kept.clock += 1
        return batch

    def load(self, places: NDArray[np.int64]) -> list[Passing]:
        """Read what these buckets lack; returns what there is no room for."""
        passing: list[Passing] = []
        self._refresh(places, passing.append)
        return passing

    def rank(
        self,
        vectors: NDArray[np.float32],
        n: int,
        probes: int,
    ) -> tuple[Batch, int, int]:
        """Score what is in the most probable buckets of each query.

        What is not here is read first, for all queries together as far as there is room for it.

        Args:
            vectors: (q, d) float32, the queries, q >= 1, of any length.
            n: how many are to be found for each.
            probes: buckets of each table.

        Returns:
            What is found, as it is until the next call; how many rows were scored; and the least
            number that is found for a query.

        Raises:
            OutdatedError: the tables have another generation.
            VectorError: a query is not finite, or of length zero.
        """
        loops, probes = self._loops, min(probes, self._family.size)
        room = self._room((len(vectors), n, probes))
        batch, headers, kept = room.batch, room.headers, self._kept.rows
        batch.vectors[:] = vectors
        self._kept.clock += 1
        now = self._epoch, self._kept.clock
        if room.cells:
            scored, least = loops.rank_vectors(kept.values, kept.bits, headers, room.cells, *now)
        else:
            loops.turn(headers)
            batch.places[:] = self.places(batch.exact, probes)
            scored, least = loops.rank_places(kept.values, kept.bits, headers, *now)
        if least == loops.UNUSABLE:
            checked(batch.vectors, dim=vectors.shape[1])
        if least < 0:
            scored += self._rank_missed(batch)
            least = int(batch.found.min())
        return batch, scored, least

    def _room(self, asked: tuple[int, int, int]) -> Prepared:
        """Room for so many queries, results and probes, and all addresses of now."""
        room = self._rooms.get(asked)
        if room is None or not room.is_for(self._dead, self._kept):
            if len(self._rooms) == _ROOMS:
                self._rooms.clear()
            room = self._rooms[asked] = Prepared.of(
                asked, self._dead, family=self._family, turning=self._turning, kept=self._kept
            )
        return room

    def bury(self, rows: NDArray[np.uint32]) -> None:
        """Note that rows are deleted or replaced: they are not found any more."""
        if not len(rows):
            return
        size = int(rows.max()) // 8 + 1
        if size > len(self._dead):
            # Half as much again, so that one at a time does not cost a copy each.
            self._dead = np.concatenate(
                [self._dead, np.zeros(size * 3 // 2 - len(self._dead), np.uint8)]
            )
        np.bitwise_or.at(self._dead, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))

    def places(self, queries: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
        """(q, probes * tables) the places of the most probable buckets, the best of each first."""
        numbers = self._family.probes(queries, probes).astype(np.int64)
        numbers += (np.arange(self._family.tables) * self._family.size)[:, None]
        return numbers.swapaxes(1, 2).reshape(len(queries), -1)

    def _rank_missed(self, batch: Batch) -> int:
        """`rank` for the queries that have missed something; returns how many rows were scored."""
        places = batch.places
        missed = np.flatnonzero(batch.found == self._loops.MISSED)
        if len(missed) > 1:
            self._refresh(places[missed].ravel(), lambda _: None)
        scored = 0
        for i in missed.tolist():
            passing = self.load(places[i])
            batch.found[i] = 0
            # Some may have died by what was read.
            out = self._dead
            scored += sum(self.score_chain(one.rows, batch, i, out) for one in passing)
            scored += self.score(self._kept.rows, self._kept.chains(places[i]), batch, i, out)
        return scored

    def score_chain(self, chain: Chains, batch: Batch, i: int, excluded: NDArray[np.uint8]) -> int:
        """As `score`, all rows of one chain."""
        chains = np.zeros(1, np.int32), np.array([len(chain.rows)], np.int32)
        return self.score(chain, chains, batch, i, excluded)

    def score(
        self,
        rows: Chains,
        chains: tuple[NDArray[np.int32], NDArray[np.int32]],
        batch: Batch,
        i: int,
        excluded: NDArray[np.uint8],
    ) -> int:
        """Score chains of rows for the i-th query, beside what it has found already."""
        from simdist.search.chain_loops import rank_chains

        batch.found[i] = rank_chains(
            batch.query(i), *chains, rows, excluded, batch.found[i], batch.rows[i], batch.scores[i]
        )
        return int(chains[1].sum())

    def _read(self, wanted: NDArray[np.int64]) -> Reading:
        """Read buckets; what was read before is part of the partition's history still."""
        reading = self._partition.read(
            self.generation, wanted, dead_known=self._dead_known, moment=self.moment
        )
        if not self.moment:
            codec = self._partition.codec
            self._format = Codes.of(codec, reading.bits) if reading.bits else codec
            self._kept = KeptBuckets(self._format, self._memory)
        elif reading.bits != self._kept.rows.bits:
            raise OutdatedError
        self._dead_known += len(reading.dead)
        self.bury(reading.dead)
        self.moment, self._epoch = reading.moment, epoch_of(reading.moment)
        return reading

    def _refresh(self, places: NDArray[np.int64], overflow: Callable[[Passing], None]) -> None:
        """Read what these buckets lack; what there is no room for goes to `overflow`."""
        from simdist.search.chain_loops import Tails

        wanted = np.array(list(dict.fromkeys(places.tolist())), np.int64)
        known, epochs = self._kept.use(wanted)
        missing = (epochs < self._epoch) | (epochs < 0)
        wanted, known = wanted[missing], known[missing]
        self.readings += bool(len(wanted))
        while len(wanted):
            asked = np.empty((len(wanted), 3), np.int64)
            np.divmod(wanted, self._family.size, out=(asked[:, 0], asked[:, 1]))
            asked[:, 2] = known
            reading = self._read(asked)
            count, complete = len(reading.ends), reading.complete
            tails = Tails(
                wanted[:count],
                known[:count],
                reading.known,
                np.where(complete, self._epoch, -1),
                reading.ends,
                reading.rows,
                reading.inverse_lengths,
                reading.vectors,
            )
            for i in self._kept.append(tails):
                part = slice(reading.ends[i - 1] if i else 0, reading.ends[i])
                chain = as_chain(reading.rows[part], reading.vectors[part], self._format)
                overflow(Passing(int(wanted[i]), chain))
            known = np.concatenate([reading.known[~complete], known[count:]])
            wanted = np.concatenate([wanted[:count][~complete], wanted[count:]])


def _padded(bits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.pad(bits, (0, size - len(bits)))
