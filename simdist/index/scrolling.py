"""Images of a collection page by page, in an order that stays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.where import Where
from simdist.store.records import Record

# A partition, and the first of its rows that has not been shown.
_CURSOR = re.compile(r"([0-9]{1,9})-([0-9]{1,10})")


@dataclass(frozen=True)
class Choice:
    """Which images are meant: all that every attribute which is not None agrees with.

    Attributes:
        prefix: what their URIs begin with.
        label: theirs.
        where: what else holds of them.
    """

    prefix: str | None = None
    label: str | None = None
    where: Where | None = None

    def has(self, record: Record) -> bool:
        """Whether an image is meant."""
        return (
            (self.prefix is None or record.uri.startswith(self.prefix))
            and (self.label is None or record.label == self.label)
            and (self.where is None or self.where.has(record.uri, record.label, record.metadata))
        )


EVERYTHING = Choice()


@dataclass(frozen=True)
class Page:
    """Some images, and where the next page begins; None after the last.

    `looked_at` is how many images there were, those that are not meant among them.
    """

    images: tuple[Record, ...]
    next: str | None
    looked_at: int


def scroll(
    collection: Collection,
    *,
    n: int,
    after: str | None = None,
    choice: Choice = EVERYTHING,
    most: int | None = None,
) -> Page:
    """The next n images.

    All pages together show each image that does not change meanwhile once. One that is added later
    comes at the end of its partition; one that is replaced or changed is like a new one, and comes
    again, or later.

    Args:
        after: `Page.next` of the page before; None for the first.
        most: images that are looked at, if they are many: then a page may have fewer than n.

    Raises:
        UsageError: `n` is below 1, or `after` is of no page.
        StoreError: the server cannot be reached, or a record is damaged.
    """
    if n < 1:
        raise UsageError("a page has at least one image")
    place = _CURSOR.fullmatch(after or "0-0")
    if place is None or int(place[1]) >= len(collection.partitions):
        raise UsageError(f"{after!r} is where no page of {collection.name!r} begins")
    found: list[Record] = []
    looked_at = 0
    for number, row, record in _from(collection, int(place[1]), int(place[2])):
        meant = choice.has(record)
        if looked_at == most or (meant and len(found) == n):
            return Page(tuple(found), f"{number}-{row}", looked_at)
        looked_at += 1
        if meant:
            found.append(record)
    return Page(tuple(found), None, looked_at)


def selected(collection: Collection, choice: Choice) -> Iterator[str]:
    """The URIs of all images that are meant; of those that change meanwhile, see `scroll`."""
    for _, _, record in _from(collection, 0, 0):
        if choice.has(record):
            yield record.uri


def _from(collection: Collection, first: int, row: int) -> Iterator[tuple[int, int, Record]]:
    for number, partition in enumerate(collection.partitions[first:], first):
        start = row if number == first else 0
        for rows, records in partition.blocks.records(start, partition.state().rows):
            for one, record in zip(rows.tolist(), records, strict=True):
                yield number, one, record
        # It may have been dropped meanwhile, which this says.
        partition.history.generations()
