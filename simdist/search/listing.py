"""All images of a collection in an order, any part of which is at hand: what a grid scrolls in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simdist.index.dates import MONTH, date_text, month_text
from simdist.index.scrolling import Choice

Order = Literal["newest", "oldest", "name"]
# Bytes of a name that are compared at once; names that agree in so many are compared one by one.
_COMPARED = 48


@dataclass(frozen=True)
class Listed:
    """An image of a listing.

    Attributes:
        date: as far as it is known.
        version: another one where its content, its label or its metadata has changed.
    """

    uri: str
    label: str | None
    date: str | None
    version: str


@dataclass(frozen=True)
class Table:
    """What is kept of images, a number or some bytes each: some 60 bytes an image in all.

    Attributes:
        partitions, rows: (n,) where each is stored.
        dates: (n,) `dates.packed_date`.
        folders, labels: (n,) places in `folder_names` and `label_names`; of labels -1 for none.
        names: what is behind the folders, end to end, encoded.
        ends: (n + 1,) where they end; the first is 0.
        alive: (n,) whether each is there still.
    """

    partitions: NDArray[np.uint16]
    rows: NDArray[np.uint32]
    dates: NDArray[np.int64]
    folders: NDArray[np.int32]
    labels: NDArray[np.int32]
    names: bytes
    ends: NDArray[np.int64]
    alive: NDArray[np.bool_]
    folder_names: tuple[bytes, ...]
    label_names: tuple[bytes, ...]

    def name(self, image: int) -> bytes:
        """What is behind the folder of an image."""
        start, end = int(self.ends[image]), int(self.ends[image + 1])
        return self.names[start:end]

    def uri(self, image: int) -> bytes:
        """An image's URI, encoded."""
        return self.folder_names[int(self.folders[image])] + self.name(image)

    def label(self, image: int) -> str | None:
        """An image's label."""
        number = int(self.labels[image])
        return None if number < 0 else self.label_names[number].decode()

    @property
    def size(self) -> int:
        """Bytes that it takes, its orders included."""
        arrays = (self.partitions, self.rows, self.dates, self.folders, self.labels, self.ends)
        names = sum(map(len, (*self.folder_names, *self.label_names)))
        return sum(one.nbytes for one in arrays) + len(self.names) + names + 9 * len(self.alive)


class Listing:
    """The images of a collection at one moment.

    Attributes:
        table: what is known of them.
        version: another one where anything has changed.
    """

    def __init__(self, table: Table, version: str, *, mark: bytes = b"") -> None:
        """Nothing is sorted yet.

        Args:
            mark: by which the collection is told from one that is made in its place.
        """
        self.table = table
        self._mark = mark
        self.version = version
        self._orders: dict[bool, NDArray[np.int32]] = {}

    def ordered(self, order: Order, meant: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
        """(m,) the images, or those of them that are meant, in an order.

        "newest" has those without a date last. Of the same date, what was indexed last comes first,
        and what was indexed by one call is in an order of its own, which stays. "oldest" is the
        same the other way round; "name" is by folder, then by name.
        """
        by_name = order == "name"
        if by_name not in self._orders:
            sort = _by_name if by_name else _by_date
            self._orders[by_name] = sort(self.table)
        all_images = self._orders[by_name]
        chosen = all_images if meant is None else all_images[meant[all_images]]
        return chosen[::-1] if order == "oldest" else chosen

    def meant(self, choice: Choice) -> NDArray[np.bool_]:
        """(n,) which images agree with a choice's prefix and label; its filter is not tried."""
        table = self.table
        meant = table.alive.copy()
        if choice.label is not None:
            wanted = choice.label.encode()
            numbers = [i for i, name in enumerate(table.label_names) if name == wanted]
            meant &= np.isin(table.labels, numbers)
        if choice.prefix is not None:
            meant &= self._begins_with(choice.prefix.encode())
        return meant

    def _begins_with(self, prefix: bytes) -> NDArray[np.bool_]:
        table = self.table
        whole = np.array([name.startswith(prefix) for name in table.folder_names], np.bool_)
        # Of these folders, some of the images.
        part = [prefix.startswith(name) and name != prefix for name in table.folder_names]
        found = whole[table.folders]
        for image in np.flatnonzero(np.array(part, np.bool_)[table.folders] & ~found).tolist():
            found[image] = table.uri(image).startswith(prefix)
        return found

    def at(self, image: int) -> Listed:
        """What is known of an image."""
        table = self.table
        place = self._mark + table.partitions[image].tobytes() + table.rows[image].tobytes()
        return Listed(
            table.uri(image).decode(),
            table.label(image),
            date_text(int(table.dates[image])),
            # A row is never written again.
            hashlib.blake2b(place, digest_size=6).hexdigest(),
        )

    def folders(self, images: NDArray[np.int32]) -> dict[str, int]:
        """How many of these are in each folder, which ends with a slash; the fullest first."""
        names = [name.decode() for name in self.table.folder_names]
        return _counted(self.table.folders[images], names)

    def labels(self, images: NDArray[np.int32]) -> dict[str, int]:
        """How many of these have each label; the most frequent first."""
        numbers = self.table.labels[images]
        return _counted(numbers[numbers >= 0], [name.decode() for name in self.table.label_names])

    def months(self, images: NDArray[np.int32]) -> dict[str, int]:
        """How many of these are of each month, `2024-05`, the last first."""
        dates = self.table.dates[images]
        numbers, counts = np.unique(dates[dates > 0] // MONTH, return_counts=True)
        pairs = zip(numbers[::-1].tolist(), counts[::-1].tolist(), strict=True)
        return {month_text(number): count for number, count in pairs}


def _counted(numbers: NDArray[np.int32], names: list[str]) -> dict[str, int]:
    counts = np.bincount(numbers, minlength=len(names))
    found: Mapping[str, int] = {
        name: int(count) for name, count in zip(names, counts, strict=True) if count
    }
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _by_date(table: Table) -> NDArray[np.int32]:
    images = np.flatnonzero(table.alive)
    rows, partitions = table.rows[images].astype(np.int64), table.partitions[images]
    # Wherever it is made, it is the same one.
    order = np.lexsort((partitions, -rows, -table.dates[images]))
    return images[order].astype(np.int32)


def _by_name(table: Table) -> NDArray[np.int32]:
    images = np.flatnonzero(table.alive)
    if not len(images):
        return images.astype(np.int32)
    ranks = np.empty(len(table.folder_names), np.int32)
    ranks[sorted(range(len(ranks)), key=table.folder_names.__getitem__)] = np.arange(len(ranks))
    of_images = ranks[table.folders[images]]
    begins = np.array([table.name(i)[:_COMPARED] for i in images.tolist()])
    order = np.lexsort((begins, of_images))
    images, of_images, begins = images[order], of_images[order], begins[order]
    same = (begins[1:] == begins[:-1]) & (of_images[1:] == of_images[:-1])
    for start, end in _runs(same):
        images[start:end] = sorted(images[start:end].tolist(), key=table.name)
    return images.astype(np.int32)


def _runs(same: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where runs of equal neighbours begin and end, by which are equal to the one before."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    return [(int(start), int(end) + 1) for start, end in edges.reshape(-1, 2)]
