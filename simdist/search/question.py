"""What a collection is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from simdist.errors import UsageError
from simdist.index.where import Where, both, with_label
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS

WAYS = ("vector", "uri", "id", "url", "image")
# Of one question, both kinds together.
MAX_EXAMPLES = 32
MAX_WEIGHT = 1000


class Hit(NamedTuple):
    """A similar image. `score` is the cosine similarity, 1 at the most."""

    # Not a frozen dataclass: ten of those took a tenth of a query's time to make.

    uri: str
    score: float
    label: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Example:
    """One of several things to search by: one of the ways of a `Question`, and its weight.

    Raises:
        UsageError: it is none or several, or its weight is not above 0 and at most `MAX_WEIGHT`.
    """

    vector: ArrayLike | None = None
    uri: str | None = None
    id: str | None = None
    url: str | None = None
    image: bytes | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if _ways(self) != 1:
            raise UsageError(f"an example is one of {', '.join(WAYS)}")
        if not 0 < self.weight <= MAX_WEIGHT:
            raise UsageError(
                f"an example's weight is above 0 and at most {MAX_WEIGHT:,}, not {self.weight:g}"
            )

    def by_vector(self, vector: ArrayLike) -> Example:
        """The same example as a vector."""
        return Example(vector=vector, weight=self.weight)


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
        like: several examples in place of one of the ways; those that are indexed are no hits.
        unlike: what hits are not to be like.
        without: URIs that are no hits.

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
    like: Sequence[Example] = ()
    unlike: Sequence[Example] = ()
    without: frozenset[str] = field(default=frozenset(), repr=False)

    def __post_init__(self) -> None:
        if _ways(self) + bool(self.like) > 1:
            raise UsageError(f"search by one of {', '.join(WAYS)} or like, not by several")
        if self.unlike and not (_ways(self) or self.like):
            raise UsageError("say what hits are to be like, too, not only what they are unlike")
        if len(self.like) + len(self.unlike) > MAX_EXAMPLES:
            raise UsageError(f"a question has at most {MAX_EXAMPLES} examples")
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

    def by_vector(self, vector: ArrayLike | None) -> Question:
        """The same question, by a vector: that of the image that it asks by."""
        return replace(
            self, vector=vector, uri=None, id=None, url=None, image=None, like=(), unlike=()
        )

    @property
    def several(self) -> bool:
        """Whether there are several examples, or some that hits are to be unlike."""
        return bool(self.like or self.unlike)

    @property
    def positive(self) -> Sequence[Example]:
        """What hits are to be like."""
        if self.like:
            return self.like
        return (Example(**{way: getattr(self, way) for way in WAYS}),)


def _ways(asked: Example | Question) -> int:
    ways = (asked.vector, asked.uri, asked.id, asked.url, asked.image)
    return sum([way is not None for way in ways])


def check_recall(recall: float) -> None:
    """Raise a UsageError if no search can have that recall."""
    if not 0 < recall <= 1:
        raise UsageError(f"the recall must be above 0 and at most 1, not {recall:g}")
