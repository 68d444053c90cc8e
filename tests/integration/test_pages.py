"""Pages, ranges of scores and groups: what they find, and that no page overlaps or skips."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.index import rehash
from simdist.search.pages import Cursor, Hits
from simdist.search.question import Example, Hit, Question
from simdist.search.searcher import Searcher
from simdist.settings import MAX_RESULTS
from simdist.store import Store
from tests.collections import create, ref, vectors

COUNT = 600
DATA = vectors(COUNT)
# Some are the same picture: equal scores, in two partitions.
DATA[100:160] = DATA[100]
QUERY: NDArray[np.float32] = DATA[3] + DATA[100]


@pytest.fixture
def searcher(store: Store) -> Searcher:
    collection = create(store, partitions=2)
    refs = [
        replace(ref(i), label="odd" if i % 2 else None, metadata={"product": i % 30, "size": "L"})
        for i in range(COUNT)
    ]
    collection.add(DATA, refs)
    return Searcher(collection, max_staleness=0)


def uris(hits: list[Hit]) -> list[str]:
    return [hit.uri for hit in hits]


def pages(searcher: Searcher, question: Question) -> list[Hits]:
    found = [searcher.ask(question)]
    while found[-1].next is not None:
        found.append(searcher.ask(replace(question, after=found[-1].next)))
    return found


@pytest.mark.parametrize("where", [None, 'label = "odd"'])
def test_pages_are_one_answer(searcher: Searcher, where: str | None) -> None:
    question = Question(vector=QUERY, n=20, recall=1, where=where)
    every = searcher.ask(replace(question, n=COUNT))
    found = pages(searcher, question)
    assert uris([hit for page in found for hit in page]) == uris(every)
    assert [len(page) for page in found[:5]] == [20] * 5
    five = [searcher.ask(replace(question, offset=20 * i)) for i in range(5)]
    assert five == found[:5]
    assert five[4].next == found[4].next
    # With an offset behind another page; and in searches that were not asked as questions.
    assert searcher.ask(replace(question, after=found[0].next, offset=5)) == every[25:45]
    assert searcher.search(QUERY, n=20, recall=1, where=where).next == found[0].next
    examples = replace(question.by_vector(None), like=[Example(uri=ref(100).uri)])
    liked = pages(searcher, examples)
    assert ref(100).uri not in uris([hit for page in liked for hit in page])
    assert sum(map(len, liked)) == len(every) - (where is None)


def test_pages_while_images_come_and_go(searcher: Searcher) -> None:
    """What was there all the time is shown once; and nothing twice."""
    collection = searcher.collection
    question = Question(vector=QUERY, n=20, recall=1)
    before = searcher.ask(replace(question, n=COUNT))
    shown: list[Hit] = []
    cursor, gone = None, set()
    for step in range(100):
        page = searcher.ask(replace(question, after=cursor))
        shown += page
        if page.next is None:
            break
        cursor = page.next
        # The last hit itself, one shown and one to come go; some come that rank first of all.
        dying = {page[-1].uri, page[0].uri, before[(97 * step) % COUNT].uri}
        collection.delete(sorted(dying))
        gone |= dying
        fresh = [ref(10_000 + 50 * step + i) for i in range(50)]
        noise = vectors(50, seed=step) / np.float32(100)
        collection.add(QUERY + noise, fresh)
        if step == 7:
            rehash.rehash(collection, size=40)
    assert len(set(uris(shown))) == len(shown)
    stayed = [hit.uri for hit in before if hit.uri not in gone]
    assert [uri for uri in uris(shown) if uri in set(stayed)] == stayed


def test_all_above_a_score(searcher: Searcher) -> None:
    every = searcher.search(QUERY, n=COUNT, recall=1)
    for count in (0, 1, 30, 200):
        lowest = every[count].score
        high = [hit for hit in every if hit.score >= lowest]
        for how in ({"recall": 1.0}, {}):
            question = Question(vector=QUERY, n=COUNT, min_score=lowest, **how)  # type: ignore[arg-type]
            found = searcher.ask(question)
            assert set(uris(found)) <= set(uris(high))
            # Without a recall it goes on as long as as many buckets again bring more.
            assert len(found) >= (1 if how else 0.95) * len(high)
            paged = [hit for page in pages(searcher, replace(question, n=20)) for hit in page]
            assert uris(paged) == uris(found) or not how
            assert len(set(uris(paged)) & set(uris(found))) >= 0.95 * len(found)
    odd = Question(vector=QUERY, n=COUNT, min_score=every[99].score, where='label = "odd"')
    assert searcher.ask(odd) == [hit for hit in every[:100] if hit.label == "odd"]
    assert searcher.ask(Question(vector=-QUERY, n=COUNT, min_score=0.99)) == []


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("field", ["product", "metadata.product", "folder", "label", "size"])
def test_groups(searcher: Searcher, field: str, size: int) -> None:
    """As grouping a plain list does it; the images without a label are groups by themselves."""
    every = searcher.search(QUERY, n=COUNT, recall=1)
    keys = {
        "folder": lambda hit: hit.uri.rpartition("/")[0],
        "label": lambda hit: hit.label or hit.uri,
        "size": lambda hit: hit.metadata["size"],
    }
    groups: dict[object, list[Hit]] = defaultdict(list)
    for hit in every:
        groups[keys.get(field, lambda hit: hit.metadata["product"])(hit)].append(hit)
    expected = [group[:size] for group in groups.values()]
    for n, offset in ((1, 0), (10, 0), (50, 0), (10, 7)):
        question = Question(
            vector=QUERY, n=n, offset=offset, recall=1, group_by=field, group_size=size
        )
        hits = searcher.ask(question)
        assert hits == [hit for group in expected[offset : offset + n] for hit in group]
        assert hits.next is None


def test_many_hits(store: Store) -> None:
    """As many as there are, in order, of 12,000; read in parts."""
    collection = create(store)
    data = vectors(12_000)
    collection.add(data, [ref(i) for i in range(12_000)])
    searcher = Searcher(collection)
    hits = searcher.search(QUERY, n=MAX_RESULTS)
    assert len(set(uris(hits))) == MAX_RESULTS
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits.next is None
    exact = searcher.search(QUERY, n=MAX_RESULTS, recall=1)
    assert len(set(uris(hits)) & set(uris(exact))) > 0.95 * MAX_RESULTS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"offset": -1}, "at least 0"),
        ({"n": MAX_RESULTS, "offset": 1}, "together"),
        ({"group_by": "product", "group_size": MAX_RESULTS}, "together"),
        ({"group_by": "product", "group_size": 0}, "together"),
        ({"group_size": 2}, "by which field"),
        ({"group_by": "product", "after": "a"}, "no pages"),
    ],
)
def test_what_makes_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question(**wrong)  # type: ignore[arg-type]


def test_what_is_no_cursor(searcher: Searcher) -> None:
    nowhere = Cursor(float("nan"), 1, 1).written(), Cursor(0.5, 1, MAX_RESULTS).written()
    for text in ("a", "", "é", "A" * 30, "A" * 5000, *nowhere):
        with pytest.raises(UsageError, match="no page begins"):
            searcher.ask(Question(vector=QUERY, after=text))
