"""The near-duplicates of a collection, in groups around representatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.joining.decisions import Decisions
from simdist.joining.judging import Judged, judged
from simdist.joining.keeping import Keep, kept_of, sides_of
from simdist.joining.stars import stars
from simdist.joining.whole import OnProgress, Whole, read_whole
from simdist.prints.prints import FLAT, TINY
from simdist.settings import Settings
from simdist.store import layout, open_store

# Images that score so much are similar, if nothing else is asked for: docs/duplicates.md.
SIMILAR = 0.9


class Sought(StrEnum):
    """Which duplicates: copies of the same picture only, or what is similar, too."""

    same = "same"
    similar = "similar"


@dataclass(frozen=True)
class Duplicate:
    """One image of a group of near-duplicates.

    Attributes:
        group: the group's number, from 1 on.
        uri: which image.
        score: how alike it is to the representative, which has 1; see docs/duplicates.md.
        representative: whether the others of the group are compared with this one.
        kind: "same" if it is the same picture as the representative, else "similar".
        keep: whether it is to be kept when duplicates are removed.
    """

    group: int
    uri: str
    score: float
    representative: bool
    kind: str
    keep: bool


@dataclass(frozen=True)
class Duplicates:
    """The near-duplicates of a collection at one moment.

    Attributes:
        epochs: of the collection's partitions then: how many changes each had seen.
        images: how many there were, of which `flat` are blank or shade off evenly, `tiny` have
            hardly any pixels, and `unprinted` have no print: they are compared by their
            embeddings only.
        pairs: those that were looked at.
        whole: the images.
        decisions: what has been decided about them.
    """

    epochs: tuple[int, ...]
    images: int
    flat: int
    tiny: int
    unprinted: int
    pairs: Judged
    whole: Whole
    decisions: Decisions

    def groups(
        self,
        sought: Sought = Sought.similar,
        *,
        threshold: float | None = None,
        keep: Keep | None = None,
    ) -> list[list[Duplicate]]:
        """The groups, each with its representative first, then by score.

        Args:
            threshold: how much a member scores at least, by default `SIMILAR`.
            keep: which image of a group is to be kept, by default the representative; of those
                that a decision protects all are, and no others; none of a group all of which are
                marked for removal.

        Raises:
            UsageError: `keep` asks for what is known of no image.
        """
        least = SIMILAR if threshold is None else threshold
        chosen = np.flatnonzero(
            self.pairs.same if sought is Sought.same else self.pairs.scores >= least
        )
        apart = self._apart()
        if apart:
            pairs = map(tuple, self.pairs.numbers[chosen].tolist())
            chosen = chosen[[pair not in apart for pair in pairs]]
        numbers, parts = self.pairs.numbers[chosen], self.pairs.parts[chosen]
        sizes = np.zeros(self.images, np.int64)
        for number in np.unique(numbers).tolist():
            width, height = sides_of(self.whole.record(number)) or (0, 0)
            sizes[number] = width * height
        found = stars(numbers, self.images, parts=parts[parts >= 0], sizes=sizes, apart=apart)
        groups = []
        for number, star in enumerate(found, 1):
            which = chosen[list(star.pairs)]
            scores, same = self.pairs.scores[which].tolist(), self.pairs.same[which].tolist()
            uris = [self.whole.uri(member) for member in star.members]
            centre = self.whole.uri(star.centre)
            members = [
                Duplicate(
                    number, uri, round(score, 4), False, "same" if is_same else "similar", False
                )
                for uri, score, is_same in zip(uris, scores, same, strict=True)
            ]
            members.sort(key=lambda one: (-one.score, one.uri))
            first = Duplicate(number, centre, 1.0, True, "same", False)
            groups.append(self._with_kept([first, *members], keep))
        if keep is not None and groups:
            keep.check(self.record(one.uri) for group in groups for one in group)
        return groups

    def record(self, uri: str) -> layout.Record:
        """What is stored of an image, by its URI.

        Raises:
            KeyError: it was not there.
        """
        number = self.whole.find(uri)
        if number is None:
            raise KeyError(uri)
        return self.whole.record(number)

    def _with_kept(self, group: Sequence[Duplicate], keep: Keep | None) -> list[Duplicate]:
        kept = kept_of(keep, [one.uri for one in group], self.record, self.decisions)
        return [replace(one, keep=one.uri in kept) for one in group]

    def _apart(self) -> frozenset[tuple[int, int]]:
        numbered = set()
        for one, other in self.decisions.apart:
            first, second = self.whole.find(one), self.whole.find(other)
            if first is not None and second is not None:
                numbered.add((first, second))
        return frozenset(numbered)


def find_duplicates(
    collection: Collection, *, turns: bool = False, on_progress: OnProgress | None = None
) -> Duplicates:
    """Find the near-duplicates of a collection, all at once; no image is read.

    Args:
        turns: look also for pictures that are mirrored, or turned by quarters.
        on_progress: called with what is being done, and how many of how many it is done with.

    Raises:
        CollectionError: nothing has been added yet.
        StoreError: the server cannot be reached, or what is stored is damaged.
    """
    show = on_progress or _ignore
    decisions = Decisions.read(collection)
    return _find(read_whole(collection, show), decisions, show, turns=turns)


def groups_of_same(
    collection: Collection, whole: Whole, on_progress: OnProgress
) -> NDArray[np.int32]:
    """(n,) the group of each image, where the same pictures are in one; others are alone in theirs.

    Raises:
        StoreError: the server cannot be reached, or what is stored is damaged.
    """
    found = _find(whole, Decisions.read(collection), on_progress, turns=False)
    numbers = np.arange(len(whole), dtype=np.int32)
    for group in found.groups(Sought.same):
        members = [number for one in group if (number := whole.find(one.uri)) is not None]
        numbers[members] = members[0]
    return numbers


def _find(whole: Whole, decisions: Decisions, show: OnProgress, *, turns: bool) -> Duplicates:
    from threadpoolctl import threadpool_limits

    # Small products: threads that share a core wait for each other.
    with threadpool_limits(1):
        pairs = judged(whole, show, turns=turns)
    sizes = Counter(look if len(look) == 1 else len(look).to_bytes(2) for look in whole.looks())
    return Duplicates(
        epochs=whole.epochs,
        images=len(whole),
        flat=sizes[FLAT],
        tiny=sizes[TINY],
        unprinted=sizes[bytes(2)],
        pairs=pairs,
        whole=whole,
        decisions=decisions,
    )


def duplicates(
    collection: str,
    *,
    sought: Sought | str = Sought.similar,
    threshold: float | None = None,
    turned: bool = False,
    keep: Keep | str | None = None,
    redis: str | None = None,
) -> Iterator[Duplicate]:
    """The near-duplicates of a collection, group by group; as the command `simdist duplicates`.

    >>> for image in simdist.duplicates("demo", sought="same"):
    ...     print(image.group, image.uri, image.keep)

    Args:
        collection: its name.
        sought: "same" for copies of the same picture only, or "similar".
        threshold: how much a member scores at least, instead.
        turned: look also for pictures that are mirrored, or turned by quarters.
        keep: a rule for the one to keep: "largest", "oldest", "newest" or "path".
        redis: URL of the server; by default the environment's, or one of its own.

    Raises:
        UsageError: arguments that there are not.
        CollectionError, StoreError: it cannot be read.
    """
    try:
        wanted, rule = Sought(sought), Keep(keep) if keep is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    with open_store(Settings.resolve(redis_url=redis)) as store:
        found = find_duplicates(Collection.open(store, collection), turns=turned)
    for group in found.groups(wanted, threshold=threshold, keep=rule):
        yield from group


def _ignore(doing: str, done: int, total: int) -> None:
    """Nobody wants to know how far it is."""
