"""What the HTTP API takes and answers where duplicates are gone through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cluster.service.finder import Progress, State, Wanted
from cluster.service.http.answers import image_id
from cluster.service.http.models import MAX_NAME, Collection, ImageId, Model
from simdist.joining.duplicates import Sought
from simdist.joining.keeping import Keep
from simdist.joining.review import Counts, Facts, Member
from simdist.joining.review import State as ImageState

MAX_DECISIONS, MAX_GROUPS = 1000, 100
_MAX_OFFSET = 10_000_000

_Uri = Annotated[str, Field(min_length=1, max_length=MAX_NAME, examples=["urn:shop:4711"])]
_Pair = Annotated[list[_Uri], Field(min_length=2, max_length=2)]
_Offset = Annotated[
    int, Field(default=0, ge=0, le=_MAX_OFFSET, description="The first group: 0, 1 and so on.")
]
_Rule = Annotated[
    Literal["largest", "oldest", "newest", "path"] | None,
    Field(
        default=None,
        description="Which image of a group to keep; by default its representative.",
        examples=["largest"],
    ),
]


class WantedOptions(Model):
    """Which duplicates."""

    collection: Collection = None
    sought: Literal["same", "similar"] = Field(
        default="similar", description="The same picture in other forms only, or what is similar."
    )
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="How much an image scores at least, instead."
    )

    def wanted(self) -> Wanted:
        """The same for the finder, but for the collection."""
        return Wanted("", Sought(self.sought), self.threshold)


class FindRequest(WantedOptions):
    """Which duplicates to look for."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sought": "same"}]})


class RuleOptions(WantedOptions):
    """Some groups, and which image of each to keep."""

    keep: _Rule
    offset: _Offset

    def rule(self) -> Keep | None:
        """The rule."""
        return None if self.keep is None else Keep(self.keep)


class GroupOptions(RuleOptions):
    """A page of groups."""

    n: int = Field(default=20, ge=1, le=MAX_GROUPS, description="Groups on a page, at most.")


class RuleRequest(RuleOptions):
    """Mark what a rule does not keep, of some groups."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keep": "largest", "offset": 0}]})


class DecideRequest(Model):
    """What somebody has decided, or takes back."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"keep": ["urn:shop:4711"], "remove": ["urn:shop:4713"]},
                {"apart": [["urn:shop:4711", "urn:shop:4714"]], "undo": True},
            ]
        }
    )

    collection: Collection = None
    apart: list[_Pair] = Field(
        default=[], max_length=MAX_DECISIONS, description="Pairs that are not duplicates."
    )
    keep: list[_Uri] = Field(
        default=[], max_length=MAX_DECISIONS, description="Images that are always kept."
    )
    remove: list[_Uri] = Field(
        default=[],
        max_length=MAX_DECISIONS,
        description="Images to mark for removal; those that are not indexed are passed over.",
    )
    undo: bool = Field(default=False, description="Take these decisions back.")


class RemovalRequest(Model):
    """Of which collection what is marked is to be removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"collection": "images"}]})

    collection: Collection = None


class MemberAnswer(BaseModel):
    """An image of a group; its `score` is how alike it is to the representative."""

    id: ImageId
    uri: str
    score: float
    representative: bool
    kind: Literal["same", "similar"]
    keep: bool = Field(description="Whether it is kept, by a decision or else by the rule.")
    decided: Literal["keep", "remove", "apart"] | None
    protected: bool = Field(description="It is a reference's, and always kept.")
    state: ImageState = Field(description="Whether it is indexed, and shows the same as then.")
    label: str | None
    facts: Facts

    @classmethod
    def of(cls, member: Member) -> MemberAnswer:
        """As it is answered."""
        fields = {name: getattr(member, name) for name in cls.model_fields if name != "id"}
        return cls(id=image_id(member.uri), **fields)


class GroupAnswer(BaseModel):
    """A group, its representative first."""

    number: int = Field(description="Its place: 0, 1 and so on.")
    images: list[MemberAnswer]


class FoundAnswer(BaseModel):
    """How far the search for duplicates is; `groups` of them are known when it is done."""

    collection: str
    state: State
    doing: str
    done: int
    total: int
    detail: str
    epochs: list[int] = Field(description="Of the collection's partitions, when it was read.")
    outdated: bool = Field(description="The collection has changed since.")
    images: int
    groups: int
    left_out: int = Field(description="Groups beyond those that are kept.")

    @classmethod
    def of(cls, progress: Progress, collection: str) -> FoundAnswer:
        """As it is answered."""
        return cls(collection=collection, **asdict(progress))


class GroupsAnswer(FoundAnswer):
    """How far it is, and some of the groups."""

    page: list[GroupAnswer]

    @classmethod
    def of_page(
        cls, progress: Progress, page: Sequence[Sequence[Member]], collection: str, offset: int
    ) -> GroupsAnswer:
        """As it is answered."""
        groups = [
            GroupAnswer(number=number, images=[MemberAnswer.of(one) for one in group])
            for number, group in enumerate(page, offset)
        ]
        return cls(collection=collection, page=groups, **asdict(progress))


class CountsAnswer(BaseModel):
    """How far somebody has come."""

    marked: int = Field(description="Images of the collection that are marked for removal.")
    undecided: int = Field(description="Groups about which something is left to decide.")
    first: int | None = Field(description="The first of these at `offset` or after it.")
    proposed: int = Field(description="Images that the rule would mark, in all groups.")

    @classmethod
    def of(cls, counts: Counts) -> CountsAnswer:
        """As it is answered."""
        return cls(**asdict(counts))


class DecidedAnswer(BaseModel):
    """How many decisions were kept, or taken back."""

    decided: int


class MarkedAnswer(BaseModel):
    """What was marked now; where `next` is not null, go on from there (`offset`)."""

    marked: list[str]
    next: int | None


class RemovedAnswer(BaseModel):
    """How many were deleted now, and how many are still marked: ask again until it is none."""

    deleted: int
    left: int = Field(description="Gone, replaced since they were marked, or protected by now.")
    marked: int
