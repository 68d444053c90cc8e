"""All images of a collection as they are at one moment, while others write to it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import OutdatedError
from simdist.index.collection import Collection
from simdist.index.partition import Partition
from simdist.store import layout
from simdist.vectors.codec import INVERSE_LENGTH, Codec

# Called with what is being done, and how many of how many it is done with.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Whole:
    """The images of a collection at one moment, n of them.

    They are numbered in the order of their URIs, whatever the order in which they came.

    Attributes:
        born: of each partition, by which it is known from one that was made anew.
        epochs: of each partition, how many changes it has seen until then.
        rows: of each partition, how many row numbers it had given out until then.
        packed: (n, 4 + dim) uint8, stored vectors of int8 values, in the order of `slots`.
        slots: (n,) where each image's vector and record are.
        partitions, own_rows: (n,) where in the collection each is, in the order of `slots`.
        records: n packed records (`layout.unpack_record`), in the same order.
    """

    born: tuple[str, ...]
    epochs: tuple[int, ...]
    rows: tuple[int, ...]
    packed: NDArray[np.uint8]
    slots: NDArray[np.int64]
    partitions: NDArray[np.int64]
    own_rows: NDArray[np.int64]
    records: Sequence[bytes]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.slots)

    def record(self, number: int) -> layout.Record:
        """What is stored of an image beside its vector."""
        return layout.unpack_record(self.records[self.slots[number]])

    @cached_property
    def values(self) -> NDArray[np.int8]:
        """(n, dim), in the order of `slots`."""
        return self.packed[:, INVERSE_LENGTH:].view(np.int8)

    @cached_property
    def inverse_lengths(self) -> NDArray[np.float32]:
        """(n,), in the order of `slots`."""
        return np.ascontiguousarray(self.packed[:, :INVERSE_LENGTH]).view("<f4").ravel()

    def uri(self, number: int) -> str:
        """The URI of an image."""
        return layout.unpack_uri(self.records[self.slots[number]])

    def find(self, uri: str) -> int | None:
        """The number of an image; None if it is not there."""
        number = bisect_left(range(len(self)), uri, key=self.uri)
        return number if number < len(self) and self.uri(number) == uri else None

    def is_stored_as(self, slot: int, vector: NDArray[np.uint8]) -> bool:
        """Whether the vector at a slot is this stored one; of other than bytes nobody knows."""
        return len(vector) != self.packed.shape[1] or bool((self.packed[slot] == vector).all())

    def looks(self) -> Iterator[bytes]:
        """The prints of all images, or the marks of those that have none."""
        return (layout.unpack_look(self.records[slot]) for slot in self.slots.tolist())


def read_whole(collection: Collection, on_progress: OnProgress) -> Whole:
    """Read all images of a collection as they are at one moment, its partitions one by one.

    Raises:
        StoreError: the server cannot be reached, or what is stored is damaged.
    """
    epochs, rows, parts = [], [], []
    for partition in collection.partitions:
        if not partition.is_fitted():
            epochs.append(0)
            rows.append(0)
            continue
        epoch, end, part = _read(partition, on_progress)
        epochs.append(epoch)
        rows.append(end)
        parts.append((partition.number, *part))
    width = INVERSE_LENGTH + collection.dim
    packed = [np.empty((0, width), np.uint8), *(part[2] for part in parts)]
    records = [record for part in parts for record in part[3]]
    uris = [layout.unpack_uri(record) for record in records]
    return Whole(
        born=tuple(partition.history.born.decode() for partition in collection.partitions),
        epochs=tuple(epochs),
        rows=tuple(rows),
        packed=packed[1] if len(parts) == 1 else np.concatenate(packed),
        slots=np.array(sorted(range(len(uris)), key=uris.__getitem__), np.int64),
        partitions=np.repeat(
            np.array([part[0] for part in parts], np.int64), [len(part[1]) for part in parts]
        ),
        own_rows=np.concatenate([np.empty(0, np.int64), *(part[1] for part in parts)]),
        records=records,
    )


def _read(
    partition: Partition, on_progress: OnProgress
) -> tuple[int, int, tuple[NDArray[np.int64], NDArray[np.uint8], list[bytes]]]:
    """The partition's epoch, its rows until then, and its images then.

    What is read never changes, and is gone when it is deleted. So rows are read, and then it is
    asked which of them were dead at a moment. Those that came meanwhile are read after it: if none
    of them died since, that is the moment.
    """
    total = partition.state().rows
    packed = np.empty((total, INVERSE_LENGTH + partition.codec.dim), np.uint8)
    rows: list[NDArray[np.int64]] = []
    records: list[bytes] = []
    done, filled = 0, 0
    while True:
        epoch, end, dead = _moment(partition)
        for found, vectors, some in partition.blocks.packed(done, end):
            if filled + len(found) > len(packed):
                packed = np.concatenate([packed, np.empty_like(packed[: len(found) + filled])])
            packed[filled : filled + len(found)] = _int8(partition.codec, vectors)
            filled += len(found)
            rows.append(found)
            records += some
            on_progress("reading", filled, total)
        numbers = np.concatenate([np.empty(0, np.int64), *rows])
        there = np.zeros(end, np.bool_)
        there[numbers] = True
        there[dead] = True
        if there.all():
            alive = ~np.isin(numbers, dead)
            if alive.all():
                return epoch, end, (numbers, packed[:filled], records)
            kept = [record for record, lives in zip(records, alive.tolist(), strict=True) if lives]
            return epoch, end, (numbers[alive], packed[:filled][alive], kept)
        done = end


def _moment(partition: Partition) -> tuple[int, int, NDArray[np.uint32]]:
    """The epoch, how many rows there were, and which of them were dead."""
    while True:
        try:
            reading = partition.read(partition.families.now().generation)
        # The tables were replaced between the two; the images are the same.
        except OutdatedError:
            continue
        return layout.epoch_of(reading.moment), reading.known_rows, reading.dead


def _int8(codec: Codec, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stored vectors as they are where a byte is a value."""
    codec.check(packed)
    if codec.dtype == np.int8:
        return packed
    bytewise = Codec.of("int8", codec.dim)
    return bytewise.pack(bytewise.turned(codec.restore(packed)))
