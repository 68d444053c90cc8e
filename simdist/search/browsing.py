"""A collection's listing, made when it is first asked for and kept up to date from then on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError
from simdist.index.collection import Collection
from simdist.index.dates import packed_dates
from simdist.index.partition import Partition
from simdist.index.scrolling import Choice
from simdist.search.columns import Columns
from simdist.search.listing import Listing, Order, Table
from simdist.store import layout

# More are not listed: each takes some 60 bytes.
MOST = 5_000_000
# Choices whose images are kept, 4 bytes an image each.
_KEPT = 8
# Images that are taken apart at once.
_AT_ONCE = 32_768
# Of the time, the share that a listing may take to be brought up to date while images come and go.
_SHARE = 10


class _Names:
    """Texts by their numbers."""

    def __init__(self) -> None:
        self.numbers: dict[bytes, int] = {}

    def number(self, name: bytes) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


@dataclass(frozen=True)
class _Read:
    """How far a partition was read.

    Attributes:
        moment: at which.
        epoch, rows, dead: changes, rows, and dead rows by then.
        images: (rows,) which image of the table is in each; -1 for none.
    """

    moment: bytes
    epoch: int
    rows: int
    dead: int
    images: NDArray[np.int32]


_EMPTY = Table(
    partitions=np.zeros(0, np.uint16),
    rows=np.zeros(0, np.uint32),
    dates=np.zeros(0, np.int64),
    folders=np.zeros(0, np.int32),
    labels=np.zeros(0, np.int32),
    names=b"",
    ends=np.zeros(1, np.int64),
    alive=np.zeros(0, np.bool_),
    folder_names=(),
    label_names=(),
)
_NOTHING = _Read(b"", -1, 0, 0, np.zeros(0, np.int32))


@dataclass(frozen=True)
class Found:
    """Images of a listing, in an order.

    Attributes:
        images: (m,) as the listing numbers them.
        looked_at: how many had to be looked at to find these.
    """

    listing: Listing
    images: NDArray[np.int32]
    looked_at: int


@dataclass(frozen=True)
class Facets:
    """How many of the images that are meant are of which kind, in the order to show them.

    Attributes:
        version: of the listing.
        total: how many there are.
        folders: of all folders, whatever is said of a prefix.
        labels: of all labels, whatever is said of one.
        months: `2024-05`, the last first; those without a date are of none.
        looked_at: as in `Found`.
    """

    version: str
    total: int
    folders: Mapping[str, int]
    labels: Mapping[str, int]
    months: Mapping[str, int]
    looked_at: int


class Browser:
    """Goes through one collection, in any order and by any part; for several threads."""

    def __init__(self, collection: Collection, *, max_staleness: float) -> None:
        """Nothing is read yet.

        Args:
            max_staleness: seconds that it may be behind the collection; more where it is large and
                images keep coming, so that it takes a tenth of a core at most.
        """
        self.collection = collection
        self._max_staleness = max_staleness
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._read = [_NOTHING for _ in self.collection.partitions]
        self._columns = [Columns(partition) for partition in self.collection.partitions]
        self._folders, self._labels = _Names(), _Names()
        self._listing: Listing | None = None
        self._chosen: dict[tuple[Order, Choice], NDArray[np.int32]] = {}
        self._due = 0.0

    @property
    def size(self) -> int:
        """Bytes that it keeps, roughly."""
        listing = self._listing
        if listing is None:
            return 0
        chosen = sum(one.nbytes for one in list(self._chosen.values()))
        return listing.table.size + chosen + sum(one.images.nbytes for one in self._read)

    def images(self, order: Order, choice: Choice) -> Found:
        """Those of the images that are meant, in an order, as it is now.

        Raises:
            CollectionError: the collection is gone, or has more than `MOST` images.
            StoreError: the server cannot be reached, or a record is damaged.
        """
        with self._lock:
            before = self._listing
            listing = self._now()
            looked_at = 0 if listing is before else len(listing.table.rows)
            found = self._chosen.pop((order, choice), None)
            if found is None:
                looked_at += len(listing.table.rows)
                found = listing.ordered(order, self._meant(listing, choice))
            if len(self._chosen) >= _KEPT:
                del self._chosen[next(iter(self._chosen))]
            self._chosen[order, choice] = found
            return Found(listing, found, looked_at)

    def facets(self, choice: Choice) -> Facets:
        """Of which folders, labels and months the images are that are meant.

        Raises:
            CollectionError, StoreError: as `images`.
        """
        found = self.images("newest", choice)
        listing, looked_at = found.listing, found.looked_at
        others = []
        for given in (replace(choice, prefix=None), replace(choice, label=None)):
            other = self.images("newest", given)
            others.append(other)
            looked_at += other.looked_at
        folders, labels = others
        return Facets(
            listing.version,
            len(found.images),
            folders=folders.listing.folders(folders.images),
            labels=labels.listing.labels(labels.images),
            months=listing.months(found.images),
            looked_at=looked_at,
        )

    def _meant(self, listing: Listing, choice: Choice) -> NDArray[np.bool_] | None:
        if choice == Choice():
            return None
        meant = listing.meant(choice)
        if choice.where is not None:
            passing = np.zeros(len(meant), np.bool_)
            for read, columns in zip(self._read, self._columns, strict=True):
                there = np.flatnonzero(read.images >= 0)
                holds = columns.passing(choice.where.node, 0, read.rows)
                passing[read.images[there]] = holds[there]
            meant &= passing
        return meant

    def _now(self) -> Listing:
        started = time.monotonic()
        if self._listing is not None and started < self._due:
            return self._listing
        moments = [
            partition.history.now(read.moment)
            for partition, read in zip(self.collection.partitions, self._read, strict=True)
        ]
        if None in moments:
            # Redis has lost some of what was read: its rows may be those of other images by now.
            self._begin()
            moments = [self._anew(one) for one in self.collection.partitions]
        table = None if self._listing is None else self._listing.table
        if table is not None and 2 * int(table.alive.sum()) < len(table.alive):
            self._begin()
            table = None
        listing = self._renewed(table, [moment or b"" for moment in moments])
        took = time.monotonic() - started
        self._due = time.monotonic() + max(self._max_staleness, _SHARE * took)
        return listing

    @staticmethod
    def _anew(partition: Partition) -> bytes:
        moment = partition.history.now(b"")
        if moment is None:
            # It says so where the collection itself is another.
            partition.history.generations()
        return moment or b""

    def _renewed(self, table: Table | None, moments: list[bytes]) -> Listing:
        """The listing with all that has changed."""
        states = [partition.state() for partition in self.collection.partitions]
        if sum(state.live for state in states) > MOST:
            raise CollectionError(
                f"the collection {self.collection.name!r} has more than {MOST:,} images, too many "
                "to be shown in an order: list them page by page"
            )
        old = self._listing
        if old and [read.epoch for read in self._read] == [state.epoch for state in states]:
            return old
        known = 0 if table is None else len(table.rows)
        parts = [] if table is None else [table]
        now: list[_Read] = []
        for number, partition in enumerate(self.collection.partitions):
            read, state = self._read[number], states[number]
            images = np.full(max(state.rows, read.rows), -1, np.int32)
            images[: read.rows] = read.images
            for new in self._more(partition, read.rows, state.rows):
                images[new.rows] = np.arange(known, known + len(new.rows))
                known += len(new.rows)
                parts.append(new)
            now.append(_Read(moments[number], state.epoch, len(images), read.dead, images))
        table = self._joined(parts)
        self._read = [
            _buried(table, read, partition)
            for read, partition in zip(now, self.collection.partitions, strict=True)
        ]
        self._chosen.clear()
        mark = b"".join(partition.history.born for partition in self.collection.partitions)
        version = "-".join(str(state.epoch) for state in states)
        self._listing = Listing(table, version, mark=mark)
        return self._listing

    def _more(self, partition: Partition, first: int, end: int) -> list[Table]:
        """The images in rows from one to another, some at a time: as objects they are large."""
        parts: list[Table] = []
        rows: list[NDArray[np.int64]] = []
        packed: list[bytes] = []
        for found, records in partition.blocks.packed_records(first, end):
            rows.append(found)
            packed += records
            if len(packed) >= _AT_ONCE:
                parts.append(self._table(partition, np.concatenate(rows), packed))
                rows, packed = [], []
        if packed:
            parts.append(self._table(partition, np.concatenate(rows), packed))
        return parts

    def _table(self, partition: Partition, rows: NDArray[np.int64], packed: list[bytes]) -> Table:
        dates: list[str | None] = []
        folders: list[int] = []
        labels: list[int] = []
        names: list[bytes] = []
        for record in packed:
            uri, label, date = layout.unpack_listed(record)
            cut = uri.rfind(b"/") + 1
            folders.append(self._folders.number(uri[:cut]))
            names.append(uri[cut:])
            labels.append(-1 if label is None else self._labels.number(label))
            dates.append(date)
        return Table(
            partitions=np.full(len(names), partition.number, np.uint16),
            rows=rows.astype(np.uint32),
            dates=packed_dates(dates),
            folders=np.array(folders, np.int32),
            labels=np.array(labels, np.int32),
            names=b"".join(names),
            ends=np.cumsum([0, *map(len, names)]),
            alive=np.ones(len(names), np.bool_),
            folder_names=(),
            label_names=(),
        )

    def _joined(self, parts: list[Table]) -> Table:
        starts = np.cumsum([0, *(len(part.names) for part in parts)]).tolist()
        ends = [part.ends[1:] + start for part, start in zip(parts, starts, strict=False)]
        parts = parts or [_EMPTY]
        return Table(
            partitions=np.concatenate([part.partitions for part in parts]),
            rows=np.concatenate([part.rows for part in parts]),
            dates=np.concatenate([part.dates for part in parts]),
            folders=np.concatenate([part.folders for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            names=b"".join(part.names for part in parts),
            ends=np.concatenate([np.zeros(1, np.int64), *ends]),
            alive=np.concatenate([part.alive for part in parts]),
            folder_names=tuple(self._folders.numbers),
            label_names=tuple(self._labels.numbers),
        )


def _buried(table: Table, read: _Read, partition: Partition) -> _Read:
    """Note which images are there no more; those that were replaced have another row now."""
    width = layout.ROW_DTYPE.itemsize
    more = partition.store.call("GETRANGE", partition.keys.dead, width * read.dead, -1)
    dead = np.frombuffer(more[: len(more) // width * width], layout.ROW_DTYPE)
    gone = read.images[dead[dead < read.rows]]
    table.alive[gone[gone >= 0]] = False
    return replace(read, dead=read.dead + len(dead))
