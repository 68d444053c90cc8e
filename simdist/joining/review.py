"""The groups of duplicates of a collection at one moment, for people to go through."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from simdist.index.collection import Collection
from simdist.index.images import Stored
from simdist.index.lookup import look_up
from simdist.joining.decisions import Decisions
from simdist.joining.duplicates import Duplicate, Duplicates
from simdist.joining.keeping import Keep, bytes_of, date_of, kept_of, sides_of
from simdist.store import layout
from simdist.store.records import pack_record

# Images of all groups that are gone through, some 300 bytes each: what comes later is left out.
MAX_IMAGES = 500_000
# Groups whose images are marked by a rule at once.
MARKED = 200
_LOOK = 8

State = Literal["there", "changed", "gone"]
Decided = Literal["keep", "remove", "apart"]


@dataclass(frozen=True)
class Facts:
    """What tells copies apart; None for what nobody knows. Sides are in pixels."""

    width: int | None
    height: int | None
    bytes: int | None
    date: str | None
    format: str | None


@dataclass(frozen=True)
class Member:
    """An image of a group, as `duplicates.Duplicate`; and what is known of it now.

    Attributes:
        keep: whether it is to be kept, by a decision or else by a rule.
        decided: by whoever went through them: "keep", "remove", or "apart": it and the
            representative are no duplicates.
        protected: it is among a reference's images, which are always kept.
        state: "gone" if it is not indexed any more, "changed" if it shows something else by now.
        label, facts: as they are stored now.
    """

    uri: str
    score: float
    representative: bool
    kind: str
    keep: bool
    decided: Decided | None
    protected: bool
    state: State
    label: str | None
    facts: Facts


@dataclass(frozen=True)
class Counts:
    """How far somebody has come.

    Attributes:
        marked: images of the collection that are marked for removal.
        undecided: groups about which something is left to decide, and `first` of them, counted
            from 0 on; None for none.
        proposed: images that a rule would mark for removal.
    """

    marked: int
    undecided: int
    first: int | None
    proposed: int


class _Kept(NamedTuple):
    """An image of a group, in little memory: its packed record has no print."""

    score: float
    same: bool
    record: bytes
    look: bytes


class Review:
    """The groups of one moment; decisions about them are as they are when they are asked for.

    Attributes:
        epochs, images: as `Duplicates`.
        total: of the groups, less those that are left out.
        left_out: groups beyond `MAX_IMAGES` images.
    """

    def __init__(self, found: Duplicates, groups: Sequence[Sequence[Duplicate]]) -> None:
        self.epochs, self.images = found.epochs, found.images
        self._references = found.decisions.references
        self._groups: list[list[_Kept]] = []
        taken = 0
        for group in groups:
            taken += len(group)
            if taken > MAX_IMAGES:
                break
            self._groups.append([_kept(found.record(one.uri), one) for one in group])
        self.total = len(self._groups)
        self.left_out = len(groups) - self.total

    def page(
        self, collection: Collection, *, offset: int, n: int, keep: Keep | None
    ) -> list[list[Member]]:
        """The members of n groups, the first group being 0.

        Raises:
            StoreError: the server cannot be reached, or what is stored is damaged.
        """
        some = self._groups[offset : offset + n]
        groups = [_read(kept) for kept in some]
        uris = [one.uri for group in groups for one in group]
        pairs = [_pair(group[0].uri, one.uri) for group in groups for one in group[1:]]
        decisions = self._with_references(Decisions.about(collection, uris, pairs))
        now = dict(zip(uris, look_up(collection, uris), strict=True))
        both = zip(some, groups, strict=True)
        return [_members(kept, group, now, keep, decisions) for kept, group in both]

    def counts(self, collection: Collection, *, keep: Keep | None, offset: int = 0) -> Counts:
        """How far somebody has come, and what a rule would mark; `first` is not before `offset`.

        Raises:
            UsageError: the rule asks for what is known of no image.
            StoreError: as `page`.
        """
        decisions = self._with_references(Decisions.read(collection))
        if keep is not None and self._groups:
            keep.check(one for kept in self._groups for one in _read(kept))
        undecided = proposed = 0
        first = None
        for number, kept in enumerate(self._groups):
            group = _read(kept)
            proposed += len(_proposed(group, keep, decisions))
            if not _is_settled(group, decisions):
                undecided += 1
                if first is None and number >= offset:
                    first = number
        return Counts(len(decisions.remove), undecided, first, proposed)

    def proposed(
        self, collection: Collection, keep: Keep | None, *, offset: int
    ) -> tuple[list[str], int | None]:
        """The images of some groups that a rule marks for removal, and where the next begin.

        Raises:
            UsageError, StoreError: as `counts`.
        """
        if keep is not None and self._groups:
            keep.check(one for kept in self._groups for one in _read(kept))
        decisions = self._with_references(Decisions.read(collection))
        groups = self._groups[offset : offset + MARKED]
        uris = [one for kept in groups for one in _proposed(_read(kept), keep, decisions)]
        end = offset + MARKED
        return uris, end if end < self.total else None

    def _with_references(self, decisions: Decisions) -> Decisions:
        """References are those of the moment: `Decisions.about` does not read them."""
        return replace(decisions, references=decisions.references or self._references)


def _kept(record: layout.Record, one: Duplicate) -> _Kept:
    small = pack_record(replace(record, look=b"", place=b""))
    return _Kept(one.score, one.kind == "same", small, _digest(record.look))


def _digest(look: bytes) -> bytes:
    return hashlib.blake2b(look, digest_size=_LOOK).digest()


def _read(group: Sequence[_Kept]) -> list[layout.Record]:
    return [layout.unpack_record(one.record) for one in group]


def _members(
    kept: Sequence[_Kept],
    group: Sequence[layout.Record],
    now: Mapping[str, Stored | None],
    keep: Keep | None,
    decisions: Decisions,
) -> list[Member]:
    """The members of a group, by what is stored of them now."""
    records, states = {}, {}
    for one, record in zip(kept, group, strict=True):
        stored = now[record.uri]
        records[record.uri] = layout.unpack_record(stored.record) if stored else record
        states[record.uri] = _state(one, stored)
    active = [uri for uri in _active(group, decisions) if states[uri] == "there"]
    its = kept_of(keep, active, records.__getitem__, decisions)
    return [
        Member(
            uri=uri,
            score=one.score,
            representative=one is kept[0],
            kind="same" if one.same else "similar",
            keep=uri in its or uri not in active,
            decided=_decided(group[0].uri, uri, decisions),
            protected=uri.startswith(decisions.references),
            state=states[uri],
            label=record.label,
            facts=_facts(record),
        )
        for one, (uri, record) in zip(kept, records.items(), strict=True)
    ]


def _state(one: _Kept, stored: Stored | None) -> State:
    if stored is None:
        return "gone"
    return "there" if _digest(layout.unpack_look(stored.record)) == one.look else "changed"


def _pair(one: str, other: str) -> tuple[str, str]:
    return min(one, other), max(one, other)


def _active(group: Sequence[layout.Record], decisions: Decisions) -> list[str]:
    """Those that are duplicates of each other by all decisions; less than two are none."""
    first, *others = (one.uri for one in group)
    left = [uri for uri in others if _pair(first, uri) not in decisions.apart]
    return [first, *left] if left else []


def _is_settled(group: Sequence[layout.Record], decisions: Decisions) -> bool:
    left = [uri for uri in _active(group, decisions) if not decisions.removes(uri)]
    return len(left) < 2 or all(map(decisions.protects, left))


def _proposed(group: Sequence[layout.Record], keep: Keep | None, decisions: Decisions) -> list[str]:
    active = _active(group, decisions)
    records = {one.uri: one for one in group}
    kept = kept_of(keep, active, records.__getitem__, decisions)
    return [uri for uri in active if uri not in kept and not decisions.removes(uri)]


def _decided(first: str, uri: str, decisions: Decisions) -> Decided | None:
    if uri != first and _pair(first, uri) in decisions.apart:
        return "apart"
    if uri in decisions.keep:
        return "keep"
    return "remove" if decisions.removes(uri) else None


def _facts(record: layout.Record) -> Facts:
    width, height = sides_of(record) or (None, None)
    form = record.metadata.get("format")
    return Facts(
        width=width,
        height=height,
        bytes=bytes_of(record) or None,
        date=date_of(record) or None,
        format=form if isinstance(form, str) else None,
    )
