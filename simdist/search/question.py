"""What a collection is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from simdist.errors import UsageError
from simdist.images.parts import Part
from simdist.index.fields import Key, field_named
from simdist.index.where import Not, Where, both, has_one_of, with_label
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS

WAYS = ("vector", "uri", "id", "url", "image", "text")
# Of one question, both kinds together.
MAX_EXAMPLES = 32
MAX_WEIGHT = 1000
# Characters. What a tower reads of them is less: some sixty words.
MAX_TEXT = 1000


class Hit(NamedTuple):
    """A similar image. `score` is the cosine similarity, 1 at the most."""

    # Not a frozen dataclass: ten of those took a tenth of a query's time to make.

    uri: str
    score: float
    label: str | None
    metadata: Mapping[str, Any]


class Groups(NamedTuple):
    """Of which groups hits are to be: of some fields' values, or of any but these.

    Attributes:
        field: `fields.field_named`.
        beside: values that they are not to have.
        within: if there is any, values of which they are to have one.
    """

    field: str
    beside: frozenset[Key]
    within: frozenset[Key] | None

    @property
    def filter(self) -> Where | None:
        """The same as a filter."""
        if self.within is not None:
            return has_one_of(self.field, self.within)
        if not self.beside:
            return None
        other = has_one_of(self.field, self.beside)
        return Where(f"not {other.text}", Not(other.node))


@dataclass(frozen=True, eq=False)
class Example:
    """One of several things to search by: one of the ways of a `Question`, its part and weight.

    Raises:
        UsageError: it is none or several, or its weight is not above 0 and at most `MAX_WEIGHT`.
    """

    vector: ArrayLike | None = None
    uri: str | None = None
    id: str | None = None
    url: str | None = None
    image: bytes | None = None
    text: str | None = None
    crop: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if _ways(self) != 1:
            raise UsageError(f"an example is one of {', '.join(WAYS)}")
        if self.text is not None:
            check_text(self.text)
        _check_crop(self)
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
        vector: (dim,) numbers: an embedding. Or one of the next five in its place.
        uri: of an indexed image.
        id: of an indexed image: its `layout.uri_digest` as 24 hex digits.
        url: a public web address of an image, which a service fetches.
        image: the bytes of an image, which a service embeds.
        text: words, up to `MAX_TEXT` characters, where the collection's model reads them.
        crop: search by a part of `image` or `url`: "x,y,w,h" (`simdist.images.parts.Part`).
        n: number of hits, 1 to `MAX_RESULTS`.
        recall: find this share of the 10 most similar images, above 0 and at most 1, as measured by
            `tuning.tune`; 1 looks up every bucket. By default `searcher.PROBES` buckets are.
        min_score: all hits that are at least so similar, -1 to 1, up to n.
        offset: leave out so many of the best.
        after: where to go on, `Hits.next` of the answer before: what ranks behind its hits.
        group_by: a field (`fields`): find n groups of images that agree in it.
        group_size: hits of each of them, at most; those of a group come one after the other.
        label: only images with this label.
        where: only images that pass this filter (`simdist.index.where`).
        collection: its name, where there are several; by default a service's first.
        like: several examples in place of one of the ways; those that are indexed are no hits.
        unlike: what hits are not to be like.
        without: URIs that are no hits.
        made_by: id of the model that made its vectors, where the asker knows it.
        groups: of which alone hits are to be.

    Raises:
        UsageError: a value is out of range, or there is more than one thing to search by.
    """

    vector: ArrayLike | None = None
    uri: str | None = None
    id: str | None = None
    url: str | None = None
    image: bytes | None = None
    text: str | None = None
    crop: str | None = None
    n: int = DEFAULT_RESULTS
    recall: float | None = None
    min_score: float | None = None
    offset: int = 0
    after: str | None = None
    group_by: str | None = None
    group_size: int = 1
    label: str | None = None
    where: str | None = None
    collection: str | None = None
    like: Sequence[Example] = ()
    unlike: Sequence[Example] = ()
    without: frozenset[str] = field(default=frozenset(), repr=False)
    made_by: str = field(default="", repr=False)
    groups: Groups | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if _ways(self) + bool(self.like) > 1:
            raise UsageError(f"search by one of {', '.join(WAYS)} or like, not by several")
        if self.unlike and not (_ways(self) or self.like):
            raise UsageError("say what hits are to be like, too, not only what they are unlike")
        if len(self.like) + len(self.unlike) > MAX_EXAMPLES:
            raise UsageError(f"a question has at most {MAX_EXAMPLES} examples")
        if self.text is not None:
            check_text(self.text)
        _check_crop(self)
        if self.crop is not None and self.like:
            raise UsageError("give the part of each example with the example")
        if not 1 <= self.n <= MAX_RESULTS:
            raise UsageError(f"the number of results must be between 1 and {MAX_RESULTS}")
        if self.recall is not None:
            check_recall(self.recall)
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise UsageError(f"the lowest score must be from -1 to 1, not {self.min_score:g}")
        if self.where is not None:
            Where.parse(self.where)
        self._check_pages()

    def _check_pages(self) -> None:
        if self.offset < 0:
            raise UsageError(f"the offset is at least 0, not {self.offset}")
        if (self.n + self.offset) * self.group_size > MAX_RESULTS or self.group_size < 1:
            raise UsageError(
                f"n and offset together, times the group's size, are 1 to {MAX_RESULTS:,}: of what "
                "is less similar, ask with min_score, or with a filter"
            )
        if self.group_by is None and self.group_size != 1:
            raise UsageError("say by which field hits are to be grouped: group_by")
        if self.group_by is not None and self.after is not None:
            raise UsageError("groups have no pages but by offset")

    @property
    def group_field(self) -> str:
        """The field by which hits are grouped."""
        return field_named(self.group_by or "")

    @property
    def filter(self) -> Where | None:
        """What an image must pass: `where`, and to have the label."""
        asked = None if self.where is None else Where.parse(self.where)
        labelled = None if self.label is None else with_label(self.label)
        return both(both(asked, labelled), self.groups and self.groups.filter)

    def by_vector(
        self, vector: ArrayLike | None, *, without: frozenset[str] | None = None
    ) -> Question:
        """The same question, by a vector: that of the image that it asks by."""
        left_out = self.without if without is None else without
        nothing: dict[str, Any] = dict.fromkeys((*WAYS, "crop"))
        nothing["vector"] = vector
        return replace(self, **nothing, like=(), unlike=(), without=left_out)

    @property
    def several(self) -> bool:
        """Whether there are several examples, or some that hits are to be unlike."""
        return bool(self.like or self.unlike)

    @property
    def positive(self) -> Sequence[Example]:
        """What hits are to be like."""
        if self.like:
            return self.like
        return (Example(**{way: getattr(self, way) for way in (*WAYS, "crop")}),)


def _ways(asked: Example | Question) -> int:
    ways = (asked.vector, asked.uri, asked.id, asked.url, asked.image, asked.text)
    return sum([way is not None for way in ways])


def check_text(text: str) -> None:
    """Raise a UsageError if nothing can be searched by these words."""
    if not (text.strip(" \t\r\n") and len(text) <= MAX_TEXT):
        raise UsageError(f"a text to search by has 1 to {MAX_TEXT:,} characters")


def _check_crop(asked: Example | Question) -> None:
    if asked.crop is None:
        return
    Part.parse(asked.crop)
    if asked.url is None and asked.image is None and _ways(asked):
        raise UsageError("a part can be cut out of image or url: say crop with one of them")


def check_recall(recall: float) -> None:
    """Raise a UsageError if no search can have that recall."""
    if not 0 < recall <= 1:
        raise UsageError(f"the recall must be above 0 and at most 1, not {recall:g}")
