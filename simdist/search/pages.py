"""Pages of an answer: what was found, and where the next page begins."""

from __future__ import annotations

import binascii
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from simdist.errors import UsageError
from simdist.search.question import Hit
from simdist.settings import MAX_RESULTS

_FORM = struct.Struct(">fQI")


class Hits(list[Hit]):
    """What was found, the best first.

    Attributes:
        next: where the next page begins (`Question.after`); None where there is none.
        places: where each hit is, the partition's number and the row in one: equal scores come in
            this order.
    """

    def __init__(self, hits: Iterable[Hit] = (), places: Sequence[int] = ()) -> None:
        super().__init__(hits)
        self.places = places
        self.next: str | None = None

    def part(self, chosen: slice | Sequence[int]) -> Hits:
        """Some of them, in this order."""
        numbers = range(len(self))[chosen] if isinstance(chosen, slice) else chosen
        return Hits([self[i] for i in numbers], [self.places[i] for i in numbers])

    def rank(self, i: int) -> tuple[float, int]:
        """By what they are ordered, the least first."""
        return -self[i].score, self.places[i]

    def continued(self, n: int, before: int = 0) -> Hits:
        """The same, with `next`, as an answer of n hits that comes after so many others."""
        if len(self) == n and before + n < MAX_RESULTS:
            self.next = Cursor(self[-1].score, self.places[-1], before + n).written()
        return self


class Cursor(NamedTuple):
    """Where a page begins: behind a hit of this score and place, the `seen`-th."""

    score: float
    place: int
    seen: int

    def written(self) -> str:
        """The cursor as text."""
        return urlsafe_b64encode(_FORM.pack(*self)).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str) -> Cursor:
        """The cursor that was written so.

        Raises:
            UsageError: none was.
        """
        try:
            found = cls(*_FORM.unpack(urlsafe_b64decode(text + "==")))
        except (struct.error, binascii.Error, ValueError) as error:
            raise UsageError(f"{text[:40]!r} is where no page begins") from error
        if not -2 < found.score < 2 or found.seen >= MAX_RESULTS:
            raise UsageError(f"{text[:40]!r} is where no page begins")
        return found

    @property
    def rank(self) -> tuple[float, int]:
        """As `Hits.rank`: what comes later ranks after it."""
        return -self.score, self.place


def best_of(found: Sequence[Hits], n: int) -> Hits:
    """The n best of what was found in several partitions, or parts of them, in their order."""
    if len(found) == 1:
        return found[0]
    pairs = (
        (-hit.score, place, hit)
        for hits in found
        for hit, place in zip(hits, hits.places, strict=True)
    )
    best = sorted(pairs, key=lambda pair: pair[:2])[:n]
    return Hits([hit for _, _, hit in best], [place for _, place, _ in best])
