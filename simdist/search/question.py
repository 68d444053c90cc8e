"""What a collection is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from simdist.errors import UsageError
from simdist.index.where import Where, both, with_label
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS

WAYS = ("vector", "uri", "id", "url", "image")


class Hit(NamedTuple):
    """A similar image. `score` is the cosine similarity, 1 at the most."""

    # Not a frozen dataclass: ten of those took a tenth of a query's time to make.

    uri: str
    score: float
    label: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Question:
    """What to search by, and how to answer: all that any search can be asked.

    Attributes:
        vector: (dim,) numbers: an embedding. Or one of the next four in its place.
        uri: of an indexed image.
        id: of an indexed image: its `layout.uri_digest` as 28 hex digits.
        url: a public web address of an image, which a service fetches.
        image: the bytes of an image, which a service embeds.
        n: number of hits, 1 to `MAX_RESULTS`.
        recall: find this share of the 10 most similar images, above 0 and at most 1, as measured by
            `tuning.tune`; 1 looks up every bucket. By default `searcher.PROBES` buckets are.
        min_score: leave out hits that are less similar, -1 to 1.
        label: only images with this label.
        where: only images that pass this filter (`simdist.index.where`).
        collection: its name, where there are several; by default a service's first.

    Raises:
        UsageError: a value is out of range, or there is more than one thing to search by.
    """

    vector: ArrayLike | None = None
    uri: str | None = None
    id: str | None = None
    url: str | None = None
    image: bytes | None = None
    n: int = DEFAULT_RESULTS
    recall: float | None = None
    min_score: float | None = None
    label: str | None = None
    where: str | None = None
    collection: str | None = None

    def __post_init__(self) -> None:
        ways = (self.vector, self.uri, self.id, self.url, self.image)
        if sum([way is not None for way in ways]) > 1:
            raise UsageError(f"search by one of {', '.join(WAYS)}, not by several")
        if not 1 <= self.n <= MAX_RESULTS:
            raise UsageError(f"the number of results must be between 1 and {MAX_RESULTS}")
        if self.recall is not None:
            check_recall(self.recall)
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise UsageError(f"the lowest score must be from -1 to 1, not {self.min_score:g}")
        if self.where is not None:
            Where.parse(self.where)

    @property
    def filter(self) -> Where | None:
        """What an image must pass: `where`, and to have the label."""
        asked = None if self.where is None else Where.parse(self.where)
        return both(asked, None if self.label is None else with_label(self.label))

    def by_vector(self, vector: ArrayLike) -> Question:
        """The same question, by a vector: that of the image that it asks by."""
        return replace(self, vector=vector, uri=None, id=None, url=None, image=None)


def check_recall(recall: float) -> None:
    """Raise a UsageError if no search can have that recall."""
    if not 0 < recall <= 1:
        raise UsageError(f"the recall must be above 0 and at most 1, not {recall:g}")
