"""A collection's listing is what a plain list of its images is, sorted, filtered and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from simdist.errors import CollectionError
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.dates import MONTH, date_text, month_text, packed_date, packed_dates
from simdist.index.dropping import drop
from simdist.index.scrolling import EVERYTHING, Choice
from simdist.index.where import Where
from simdist.search.browsing import Browser
from simdist.search.listing import Order
from simdist.sources import ImageRef
from simdist.store import Store
from tests.collections import create, vectors
from tests.servers import empty

COUNT = 400
DATES = st.sampled_from(
    ["2024-05-17T09:30:00", "2024-05-17T09:30:00+02:00", "2024-05", "2023", "1999-12-31T23:59:59"]
) | st.sampled_from(["", "yesterday", "2024-13", "2024-00-10", "20240517", 2024, None])
ORDERS: list[Order] = ["newest", "oldest", "name"]
LONG = "n" * 60


@dataclass(frozen=True)
class Image:
    """What a test knows of an image."""

    uri: str
    label: str | None
    date: object


@st.composite
def lists(draw: st.DrawFn) -> list[Image]:
    """Images in a few folders, some of whose names agree for long."""
    folders = st.sampled_from(
        ["file:///a/", "file:///a/b/", "file:///a-b/", "urn:shop:", "s3://b/%C3%A9/"]
    )
    names = st.integers(0, 60).map(lambda n: f"{LONG}{n}" if n % 2 else str(n))
    uris = draw(st.lists(st.tuples(folders, names), min_size=1, max_size=40, unique=True))
    labels = st.sampled_from([None, "", "cat", "<b>cat</b>", "\u202edog"])
    return [Image("".join(uri), draw(labels), draw(DATES)) for uri in uris]


def add(collection: Collection, images: Sequence[Image]) -> None:
    refs = [
        ImageRef(
            one.uri, repr(one), 10, one.label, metadata={"date": one.date, "n": {"date": "2001"}}
        )
        for one in images
    ]
    collection.add(vectors(len(images)), refs)


def folder_of(uri: str) -> str:
    return uri[: uri.rfind("/") + 1]


def expected(images: Sequence[Image], order: Order) -> list[str]:
    """Their URIs; `images` are in the order in which they were indexed."""
    if order == "name":
        return sorted(
            (one.uri for one in images),
            key=lambda uri: (folder_of(uri).encode(), uri.encode()),
        )
    # Of those with the same date the last one comes first.
    last_first = images[::-1]
    newest = [one.uri for one in sorted(last_first, key=lambda one: -packed_date(one.date))]
    return newest if order == "newest" else newest[::-1]


def shown(browser: Browser, order: Order, choice: Choice = EVERYTHING) -> list[str]:
    found = browser.images(order, choice)
    return [found.listing.at(image).uri for image in found.images.tolist()]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(images=lists(), more=lists(), data=st.data())
def test_it_is_what_a_list_is(
    store: Store, images: list[Image], more: list[Image], data: st.DataObject
) -> None:
    empty(store)
    collection = create(store)
    browser = Browser(collection, max_staleness=0)
    # One by one: of those of one call, any may be the last.
    for one in images:
        add(collection, [one])
    assert shown(browser, "name") == expected(images, "name")

    # One that is replaced is indexed anew; one that is the same stays as it is.
    known = {one.uri: one for one in images}
    for one in more:
        add(collection, [one])
        if known.get(one.uri) != one:
            known.pop(one.uri, None)
            known[one.uri] = one
    gone = data.draw(st.sets(st.sampled_from(sorted(known)), max_size=10))
    collection.delete(sorted(gone))
    left = [one for one in known.values() if one.uri not in gone]
    browser._due = 0.0
    for order in ORDERS:
        assert shown(browser, order) == expected(left, order)

    prefix = data.draw(st.sampled_from(["file:///a", "file:///a/", "file:///a/b/n", "urn:", "x"]))
    label = data.draw(st.sampled_from(["cat", "", "none", None]))
    where = data.draw(st.sampled_from([None, 'date >= "2024"', "not label exists"]))
    choice = Choice(prefix, label, None if where is None else Where.parse(where))
    meant = [one for one in left if says(choice, one)]
    for order in ORDERS:
        assert shown(browser, order, choice) == expected(meant, order)

    facets = browser.facets(choice)
    labels = [one.label for one in left if says(replace(choice, label=None), one)]
    folders = [folder_of(one.uri) for one in left if says(replace(choice, prefix=None), one)]
    dates = [packed_date(one.date) for one in meant]
    assert facets.total == len(meant)
    assert facets.labels == Counter(label for label in labels if label is not None)
    assert facets.folders == Counter(folders)
    assert facets.months == Counter(month_text(date // MONTH) for date in dates if date)
    assert list(facets.months) == sorted(facets.months, reverse=True)
    assert list(facets.labels.values()) == sorted(facets.labels.values(), reverse=True)


def says(choice: Choice, one: Image) -> bool:
    where = choice.where
    return (
        (choice.prefix is None or one.uri.startswith(choice.prefix))
        and (choice.label is None or one.label == choice.label)
        and (where is None or where.has(one.uri, one.label, {"date": one.date}))
    )


@pytest.mark.parametrize("partitions", [1, 3])
def test_it_follows_all_changes(store: Store, partitions: int) -> None:
    collection = create(store, partitions=partitions)
    browser = Browser(collection, max_staleness=0)
    assert shown(browser, "newest") == []
    images = [Image(f"file:///p/{i:04}", "a", f"20{i % 20:02}-01") for i in range(COUNT)]
    versions = set()
    for start in range(0, COUNT, 100):
        add(collection, images[start : start + 100])
        collection.delete([images[start].uri])
        browser._due = 0.0
        versions.add(browser.images("name", EVERYTHING).listing.version)
        there = [one.uri for i, one in enumerate(images[: start + 100]) if i % 100]
        assert shown(browser, "name") == there
        # A worker that looks at it now for the first time has the same order.
        for order in ORDERS:
            assert shown(Browser(collection, max_staleness=0), order) == shown(browser, order)
    assert len(versions) == COUNT // 100

    amend(collection, [images[5].uri], Amendment("b"))
    browser._due = 0.0
    assert shown(browser, "name", Choice(label="b")) == [images[5].uri]
    # Most are gone: what is kept of them goes, too.
    collection.delete([one.uri for one in images[10:]])
    browser._due = 0.0
    assert shown(browser, "name") == [one.uri for one in images[1:10]]
    browser._due = 0.0
    collection.delete([images[1].uri])
    assert shown(browser, "name") == [one.uri for one in images[2:10]]
    assert browser.images("name", EVERYTHING).listing.table.rows.size < 10


def test_what_is_asked_for_again_is_kept(store: Store) -> None:
    collection = create(store)
    add(collection, [Image(f"file:///p/{i}", "a", None) for i in range(10)])
    browser = Browser(collection, max_staleness=60)
    choice = Choice(label="a")
    assert browser.images("name", choice).looked_at == 20
    assert browser.images("name", choice).looked_at == 0
    for i in range(20):
        assert browser.images("name", Choice(label=str(i))).looked_at == 10
    assert len(browser._chosen) < 10
    assert browser.size > 0


def test_a_collection_that_was_made_anew_is_not_taken_for_the_old_one(store: Store) -> None:
    collection = create(store)
    add(collection, [Image("file:///p/old", "a", None)])
    browser = Browser(collection, max_staleness=0)
    assert shown(browser, "name") == ["file:///p/old"]
    drop(store, collection.name)
    add(create(store), [Image("file:///p/new", "a", None)])
    browser._due = 0.0
    with pytest.raises(CollectionError):
        shown(browser, "name")


@given(
    texts=st.lists(
        DATES
        | st.text(max_size=25)
        | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}", fullmatch=True)
    )
)
def test_dates_are_packed_alike_and_in_order(texts: list[object]) -> None:
    said = [text if isinstance(text, str) else None for text in texts]
    packed = packed_dates(said).tolist()
    assert packed == [packed_date(text) for text in said]
    for text, number in zip(said, packed, strict=True):
        shown = date_text(number)
        assert (shown is None) == (number == 0)
        assert shown is None or (text or "").replace(" ", "T").startswith(shown)
    pairs = sorted((number, date_text(number)) for number in packed if number)
    assert [text for _, text in pairs] == sorted(text for _, text in pairs if text)
