"""Which images a training learns from, which it is checked with, and which it never sees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from simdist.errors import Remedy, SourceError, UsageError
from simdist.sources import ImageRef

# Of what a category has for the training, the share that is held back for validation.
VALIDATION = 0.2


@dataclass(frozen=True)
class Split:
    """A source's images, by what they are for.

    Attributes:
        classes: the categories, in alphabetical order.
        training: what the network learns from.
        validation: what its progress is measured with, epoch by epoch.
        test: what the training has nothing to do with.
    """

    classes: tuple[str, ...]
    training: tuple[ImageRef, ...]
    validation: tuple[ImageRef, ...]
    test: tuple[ImageRef, ...]


def split(
    refs: Iterable[ImageRef],
    *,
    exclude: Iterable[str] = (),
    images: int | None = None,
    validation: float = VALIDATION,
    seed: int = 0,
) -> Split:
    """Split labelled images, each category by itself; the same images are always split alike.

    Args:
        exclude: categories to leave out.
        images: how many of a category are for training and validation; the rest are for testing.
            All, unless said otherwise.
        validation: the share of those that is for validation; at least one.

    Raises:
        SourceError: there are no images, or too few, or only one category.
        UsageError: a category to leave out is not there.
    """
    by_label: dict[str, list[ImageRef]] = {}
    for ref in refs:
        if ref.label is not None:
            by_label.setdefault(ref.label, []).append(ref)
    if not by_label:
        raise SourceError(
            "no images with a category were found: put the images of each category into a folder "
            "of its own, or give a list with a column 'label'"
        )
    for name in exclude:
        if by_label.pop(name, None) is None:
            raise UsageError(f"there is no category {name!r} to leave out")
    check_classes({label: len(found) for label, found in by_label.items()})
    parts: tuple[list[ImageRef], list[ImageRef], list[ImageRef]] = [], [], []
    for label in sorted(by_label):
        ordered = sorted(by_label[label], key=lambda ref: ref.uri)
        # A category's split does not depend on the other categories.
        digest = hashlib.sha256(f"{seed} {label}".encode(errors="surrogateescape")).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        shuffled = [ordered[number] for number in generator.permutation(len(ordered))]
        kept = len(shuffled) if images is None else min(images, len(shuffled))
        held = min(kept - 1, max(1, round(validation * kept)))
        parts[0].extend(shuffled[held:kept])
        parts[1].extend(shuffled[:held])
        parts[2].extend(shuffled[kept:])
    training, valid, test = (tuple(sorted(part, key=lambda ref: ref.uri)) for part in parts)
    return Split(tuple(sorted(by_label)), training, valid, test)


def check_classes(counts: dict[str, int]) -> None:
    """Check that categories with so many images can be learned.

    Raises:
        SourceError: they cannot.
    """
    if len(counts) < 2:
        names = ", ".join(map(repr, counts)) or "none"
        raise SourceError(f"there must be at least two categories, and there is only: {names}")
    few = sorted(label for label, count in counts.items() if count < 2)
    if few:
        named = ", ".join(map(repr, few[:5])) + (f" and {len(few) - 5} more" if few[5:] else "")
        raise SourceError(
            f"a category needs at least two images, one to learn from and one to check with; "
            f"{named} has fewer: add images, or leave it out",
            remedy=Remedy.EXCLUDE,
        )
