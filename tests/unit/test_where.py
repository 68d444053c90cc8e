"""Filters in words: what they mean, and what is no filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from simdist.errors import UsageError
from simdist.index.where import MAX_FILTER, Where, both, with_label

METADATA = {
    "price": 19.5,
    "stock": 3,
    "brand": "Acme",
    "date": "2024-05-03T10:11:12",
    "sale": True,
    "label": "its own",
    "size cm": 7,
    "tags": ["a"],
    "nothing": None,
}


@pytest.mark.parametrize(
    "text",
    [
        'label = "cat"',
        "label='cat'",
        'uri ^= "s3://shop/"',
        "price < 20 and price > 19 and price <= 19.5 and price >= 1.95e1",
        "stock in (1, 2, 3)",
        'brand in ("Ajax", "Acme")',
        "sale = true and sale != false",
        'date >= "2024-05" and date < "2024-06"',
        "price exists and not colour exists",
        "not nothing exists",
        'metadata.label = "its own"',
        "`size cm` = 7",
        "tags exists",
        'colour != "red"',
        'brand != "Ajax"',
        "price > 100 or stock = 3",
        "not (price > 100 or stock = 4)",
        "price > 100 and stock = 4 or sale = true",
        "NOT price > 20 AND sale = TRUE",
        "stock = 3.0 and stock > -1",
    ],
)
def test_what_is_meant(text: str) -> None:
    assert Where.parse(text).has("s3://shop/1.jpg", "cat", METADATA)


@pytest.mark.parametrize(
    "text",
    [
        'label = "dog"',
        "label = 'Cat'",
        'uri ^= "shop"',
        'price = "19.5"',
        'price < "20"',
        "brand < 5",
        "sale = 1",
        "stock = true",
        "colour = 'red'",
        "colour < 5",
        "colour > 5",
        "tags = 'a'",
        "tags > 1",
        "brand ^= 'cme'",
        "price ^= '19'",
        "nothing exists",
        "label = 'cat' and price > 100 or sale = false",
        "not sale = true",
    ],
)
def test_what_is_not(text: str) -> None:
    assert not Where.parse(text).has("s3://shop/1.jpg", "cat", METADATA)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "at its end: the name of a field"),
        ("price", "at its end: =, !="),
        ("price = cheap", "at character 9, 'cheap': a number"),
        ("price = 5cm", "at character 9"),
        ("price == 5", "at character 8"),
        ("(price = 5", "at its end: '\\)'"),
        ("price = 5)", "at character 10, '\\)': 'and' or 'or'"),
        ("price = 5 stock = 3", "at character 11, 'stock': 'and' or 'or'"),
        ("stock in 3", "at character 10, '3': '\\('"),
        ("stock in ()", "a number, true"),
        ("price ^= 5", "in quotes"),
        ("and = 5", "the name of a field"),
        ("price = 5; drop", "at character 10"),
        ('brand = "Acme', "at character 9"),
        ("(" * 40 + "a = 1" + ")" * 40, "parentheses within each other"),
        (" or ".join(["a = 1"] * 201), "at most 200 tests"),
        ("a" * (MAX_FILTER + 1), "at most 4,000 characters"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Where.parse(text)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf")])
def test_odd_numbers_are_compared(value: float) -> None:
    metadata: Mapping[str, Any] = {"price": value}
    assert Where.parse("price > 5").has("", None, metadata) == (value > 5)
    assert Where.parse("price < 5").has("", None, metadata) == (value < 5)


def test_two_filters_become_one() -> None:
    cheap = Where.parse("price < 20")
    one = both(cheap, with_label("cat"))
    assert one is not None
    assert one.has("", "cat", METADATA)
    assert not one.has("", "dog", METADATA)
    assert not one.has("", "cat", {})
    assert both(None, cheap) is cheap
    assert both(None, None) is None
    assert with_label("a'b\"").text != with_label('a"b').text
