"""Which images are for training, validation and testing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simdist.errors import SourceError, UsageError
from simdist.sources import ImageRef
from simdist.training.split import split


def refs(**counts: int) -> list[ImageRef]:
    return [
        ImageRef(f"file:///{label}/{number:03}.jpg", "1-1", 1, label)
        for label, count in counts.items()
        for number in range(count)
    ]


def labels(part: tuple[ImageRef, ...]) -> dict[str | None, int]:
    found = [ref.label for ref in part]
    return {label: found.count(label) for label in found}


def test_every_image_is_in_one_part_and_every_category_in_the_first_two() -> None:
    given = refs(cat=40, dog=10, eel=2)
    parts = split(given, images=10)
    assert parts.classes == ("cat", "dog", "eel")
    assert labels(parts.training) == {"cat": 8, "dog": 8, "eel": 1}
    assert labels(parts.validation) == {"cat": 2, "dog": 2, "eel": 1}
    assert labels(parts.test) == {"cat": 30}
    together = [*parts.training, *parts.validation, *parts.test]
    assert sorted(ref.uri for ref in together) == sorted(ref.uri for ref in given)


def test_without_a_number_all_images_are_used() -> None:
    parts = split(refs(cat=10, dog=5), validation=0.4)
    assert (len(parts.training), len(parts.validation), len(parts.test)) == (9, 6, 0)


@pytest.mark.parametrize("validation", [0.001, 0.999])
def test_no_part_is_empty_however_the_share_is_chosen(validation: float) -> None:
    parts = split(refs(cat=5, dog=2), validation=validation)
    assert labels(parts.training).keys() == labels(parts.validation).keys() == {"cat", "dog"}


def test_a_split_depends_on_the_seed_and_on_nothing_else() -> None:
    given = refs(cat=40, dog=40)
    parts = split(given, images=10, seed=1)
    assert split(list(reversed(given)), images=10, seed=1) == parts
    assert split(given, images=10, seed=2) != parts
    touched = [replace(ref, fingerprint="2-2") for ref in given]
    assert [ref.uri for ref in split(touched, images=10, seed=1).test] == [
        ref.uri for ref in parts.test
    ]
    # Another category leaves those that were there as they were.
    more = split([*given, *refs(eel=40)], images=10, seed=1)
    assert [ref for ref in more.test if ref.label != "eel"] == list(parts.test)


def test_categories_can_be_left_out() -> None:
    parts = split(refs(cat=4, dog=4, eel=1), exclude=["eel"])
    assert parts.classes == ("cat", "dog")
    with pytest.raises(UsageError, match="no category 'fox' to leave out"):
        split(refs(cat=4, dog=4), exclude=["fox"])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "no images with a category were found"),
        ([ImageRef("file:///a.jpg", "1-1", 1, None)], "no images with a category were found"),
        (refs(cat=9), "at least two categories, and there is only: 'cat'"),
        (
            refs(cat=9, dog=1),
            "needs at least two images.*'dog' has fewer: add images, or leave it out",
        ),
        (refs(cat=9, a=1, b=1, c=1, d=1, e=1, f=1), "'a', 'b', 'c', 'd', 'e' and 1 more has"),
    ],
)
def test_images_that_cannot_be_split_say_why(given: list[ImageRef], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        split(given)
