"""Which images of a source are taken, and what becomes their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from simdist.sources import patterns
from simdist.sources.columns import Columns
from simdist.sources.reference import MEMBER, ImageRef, ListingFailure

Entry = ImageRef | ListingFailure


class LabelFrom(StrEnum):
    """Where an image's label comes from."""

    folder = "folder"
    column = "column"
    none = "none"


@dataclass(frozen=True)
class Selection:
    """Which images of a source to take, and what to take for their labels.

    Attributes:
        include: patterns; one of them must match the image's path below the source, or its name
            alone if the pattern has no slash. Without any, all images are taken.
        exclude: patterns, none of which may match.
        limit: take no more than so many images.
        label_from: without it, the column where there are columns, and the folder elsewhere.
        columns: of lists and tables.
        hidden: take also hidden files, thumbnails, and what systems leave in folders.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit: int | None = None
    label_from: LabelFrom | None = None
    columns: Columns = field(default_factory=Columns)
    hidden: bool = False


def select(entries: Iterator[Entry], root: str, selection: Selection) -> Iterator[Entry]:
    """The entries that are selected; `root` is left out of a URI before it is matched."""
    included, excluded = _matcher(selection.include), _matcher(selection.exclude)
    left = selection.limit
    for entry in entries:
        name = _below(entry.uri, root)
        if (selection.include and not included(name)) or excluded(name):
            continue
        if isinstance(entry, ListingFailure):
            yield entry
            continue
        ref = _labelled(entry, selection.label_from)
        if flaw := ref.flaw():
            yield ListingFailure(ref.uri, flaw)
            continue
        yield ref
        if left is not None:
            left -= 1
            if left <= 0:
                return


def _matcher(globs: tuple[str, ...]) -> Callable[[str], bool]:
    whole = [patterns.matcher(glob) for glob in globs if "/" in glob]
    last = [patterns.matcher(glob) for glob in globs if "/" not in glob]

    def matches(name: str) -> bool:
        base = name.rpartition("/")[2]
        return any(p.fullmatch(name) for p in whole) or any(p.fullmatch(base) for p in last)

    return matches


def _labelled(ref: ImageRef, label_from: LabelFrom | None) -> ImageRef:
    label = ref.label
    if label_from not in (None, LabelFrom.column):
        label = None if label_from is LabelFrom.none else _folder(ref.uri)
    if label is not None and not label.isascii():
        label = normalize("NFC", label)  # one label for a name, which macOS writes otherwise
    return ref if label == ref.label else replace(ref, label=label)


def _folder(uri: str) -> str | None:
    """The name of the folder in which an image lies; in an archive, of the folder there."""
    archive, _, member = uri.partition(MEMBER)
    path = unquote(member or urlsplit(archive).path, errors="replace")
    return path.rpartition("/")[0].rpartition("/")[2] or None


def _below(uri: str, root: str) -> str:
    archive, _, member = uri.partition(MEMBER)
    return unquote(member or archive.removeprefix(root), errors="replace")
