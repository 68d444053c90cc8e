"""What belongs together in an archive: images, and the members that say something of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from simdist.images.formats import SIGNATURE, begins_as_image
from simdist.images.limits import SUFFIXES
from simdist.sources.columns import plain
from simdist.sources.passed import PassedOver
from simdist.sources.reference import MAX_NOTE, Found, ImageRef, ListingFailure

MAX_IMAGES = 1000  # of a key: they wait for what is said of them
# Keys that wait for what is said of them further on, and bytes of notes that wait for theirs.
WINDOW = 100_000
MAX_HELD = 256 * 1024 * 1024

_NOTES = ("cls", "json", "txt")


@dataclass(frozen=True)
class Member:
    """A file in an archive.

    Attributes:
        name: its path there.
        size: bytes.
        offset: as `ImageRef` has it.
        read: its first bytes, so many.
        flaw: why it cannot be read.
    """

    name: str
    size: int
    offset: int
    read: Callable[[int], bytes]
    flaw: str | None = None


_Said = tuple[str | None, dict[str, Any]]  # a label, and metadata


@dataclass
class _Sample:
    """The members of one key, and what is said of all its images, or of one of them."""

    images: dict[str, Member] = field(default_factory=dict)
    # Of all of them (None), or of the one whose name, or name without its suffix, this is.
    said: dict[str | None, list[_Said]] = field(default_factory=dict)
    notes: int = 0  # bytes of what is said


class Samples:
    """Puts members together, in any order of them within `WINDOW` keys.

    They belong together by the part of their names before the first dot: `KEY.cls` holds the label
    of `KEY.jpg` and `KEY.left.jpg`, `KEY.json` an object of metadata, and `KEY.txt` a text that
    becomes the metadata `txt`. `NAME.json` and `NAME.txt` are for `NAME.jpg` alone where NAME has a
    dot, and `NAME.jpg.json` for `NAME.jpg`.
    """

    def __init__(self, archive: Found, *, placed: bool) -> None:
        """Nothing is held yet.

        Args:
            placed: whether a member can be read by its offset in the archive.
        """
        self._archive = archive
        self._placed = placed
        self._held: OrderedDict[str, _Sample] = OrderedDict()
        self._notes = 0

    def entries(
        self, members: Iterable[Member | ListingFailure], passed: PassedOver
    ) -> Iterator[ImageRef | ListingFailure]:
        """The images of an archive; of two members of one name the last, in the first's place."""
        for member in members:
            if isinstance(member, ListingFailure):
                yield member
                continue
            reason = self._take(member, passed)
            if reason:
                yield ListingFailure(self._archive.member(member.name), reason)
            while len(self._held) > WINDOW or self._notes > MAX_HELD:
                yield from self._leave(*self._held.popitem(last=False))
        while self._held:
            yield from self._leave(*self._held.popitem(last=False))

    def _take(self, member: Member, passed: PassedOver) -> str | None:
        """Take a member into its sample; returns why not."""
        if passed.leaves_out_path(member.name.removeprefix("./")):
            return None
        folder, slash, base = member.name.rpartition("/")
        stem, _, kind = base.rpartition(".")
        kind, key = kind.lower(), folder + slash + base.partition(".")[0]
        if stem and kind in _NOTES:
            return self._take_note(key, folder + slash + stem, kind, member)
        if "." + kind in SUFFIXES if stem else begins_as_image(member.read(SIGNATURE)):
            return self._take_image(key, member, passed)
        passed.note(base)
        return None

    def _take_note(self, key: str, stem: str, kind: str, member: Member) -> str | None:
        sample = self._held.setdefault(key, _Sample())
        if sample.notes + member.size > MAX_NOTE:
            return f"it has {member.size:,} bytes; at most {MAX_NOTE:,} are kept with an image"
        sample.notes += member.size
        self._notes += member.size
        try:
            said = _said(kind, member.read(member.size).decode().strip())
        except UnicodeDecodeError:
            return "not UTF-8"
        except (ValueError, RecursionError):
            return "not a JSON object"
        sample.said.setdefault(None if stem == key else stem, []).append(said)
        return None

    def _take_image(self, key: str, member: Member, passed: PassedOver) -> str | None:
        if member.flaw:
            return member.flaw
        sample = self._held.setdefault(key, _Sample())
        if member.name in sample.images:  # appended once more: the last counts
            passed.counts["older versions"] += 1
        elif len(sample.images) == MAX_IMAGES:
            return f"its key has more than {MAX_IMAGES:,} images"
        sample.images[member.name] = member
        return None

    def _leave(self, key: str, sample: _Sample) -> Iterator[ImageRef]:
        self._notes -= sample.notes
        for name, image in sample.images.items():
            metadata: dict[str, Any] = {}
            label = None
            for about in (None, name.rpartition(".")[0], name):
                for said_label, said in sample.said.get(about, ()):
                    label = said_label or label
                    metadata |= said
            yield ImageRef(
                uri=self._archive.member(name),
                fingerprint=f"{self._archive.fingerprint}-{image.offset}",
                size=image.size,
                label=label,
                metadata=metadata,
                offset=image.offset if self._placed else None,
                depth=self._archive.depth,
            )


def _said(kind: str, text: str) -> _Said:
    """The label and the metadata that a note gives."""
    if kind == "cls":
        return text or None, {}
    if kind == "txt":
        return None, {"txt": text}
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError("no object")
    return None, plain(fields)
