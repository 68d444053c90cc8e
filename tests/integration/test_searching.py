"""A query worker's searching thread answers what a searcher does, question by question."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from cluster.service.metrics import ServiceMetrics
from cluster.service.searching import MAX_TOGETHER, Found, Searching
from simdist.errors import SimdistError, UnknownCollectionError, UnknownImageError, VectorError
from simdist.index.collection import Collection
from simdist.search.pages import Hits
from simdist.search.question import Question
from simdist.search.searcher import Searcher
from simdist.store import Store
from tests.collections import DIM, START, filled, ref, vectors
from tests.servers import keys

QUERIES = vectors(3 * MAX_TOGETHER, seed=1)


class Counting(Searcher):
    """A searcher that writes down how many queries each of its searches had."""

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection)
        self.together: list[int] = []

    def search_many(self, vectors: object, **how: object) -> list[Hits]:
        self.together.append(len(vectors))  # type: ignore[arg-type]
        return super().search_many(vectors, **how)  # type: ignore[arg-type]


@pytest.fixture
def searcher(store: Store) -> Counting:
    return Counting(filled(store))


def ask(
    searcher: Searcher, questions: Sequence[Question], forgotten: list[Collection] | None = None
) -> list[Hits | BaseException]:
    """Ask all at once."""

    def find(name: str | None) -> Searcher:
        if name is not None:
            raise UnknownCollectionError("it is not served here")
        return searcher

    async def ask_all() -> list[Hits | BaseException]:
        forget = [] if forgotten is None else forgotten
        searching = Searching(find, forget.append, ServiceMetrics("one"))
        found = await asyncio.gather(*map(searching.ask, questions), return_exceptions=True)
        return [one if isinstance(one, BaseException) else one.hits for one in found]

    return asyncio.run(ask_all())


def test_those_that_ask_alike_are_searched_together(searcher: Counting) -> None:
    questions = [Question(vector=query, n=7) for query in QUERIES]
    expected = [searcher.ask(question) for question in questions]
    searcher.together.clear()
    assert ask(searcher, questions) == expected
    assert searcher.together == [MAX_TOGETHER] * 3


def test_each_is_answered_as_if_it_were_alone(searcher: Counting) -> None:
    [stored] = [searcher.collection.get(ref(5).uri)]
    assert stored is not None
    questions = [
        Question(vector=QUERIES[0], n=3),
        Question(uri=ref(5).uri, n=3),
        Question(vector=QUERIES[1], n=4),
        Question(vector=stored.vector, n=3),
        Question(vector=QUERIES[2], n=3, label="things"),
        Question(vector=QUERIES[3], n=3, min_score=0.9),
        Question(vector=QUERIES[4], n=3, recall=1.0),
        Question(vector=QUERIES[5].tolist(), n=3),
    ]
    assert ask(searcher, questions) == [searcher.ask(question) for question in questions]


def test_a_bad_question_spoils_no_other(searcher: Counting) -> None:
    good = [Question(vector=query) for query in QUERIES[:3]]
    bad = [
        Question(vector=np.zeros(DIM, np.float32)),
        Question(vector=np.ones(DIM + 1, np.float32)),
        Question(uri="urn:nowhere"),
        Question(vector=QUERIES[0], collection="other"),
    ]
    forgotten: list[Collection] = []
    found = ask(searcher, [good[0], bad[0], good[1], *bad[1:], good[2]], forgotten)
    assert [found[0], found[2], found[6]] == [searcher.ask(question) for question in good]
    kinds = [VectorError, VectorError, UnknownImageError, UnknownCollectionError]
    assert [type(found[i]) for i in (1, 3, 4, 5)] == kinds
    assert forgotten == []


def test_a_collection_that_is_gone_is_opened_anew(searcher: Counting, store: Store) -> None:
    for key in keys(store, "*"):
        store.call("DEL", key)
    forgotten: list[Collection] = []
    question = Question(vector=QUERIES[0])
    found = ask(searcher, [question], forgotten)
    assert isinstance(found[0], SimdistError)
    assert forgotten == [searcher.collection]


def test_who_no_longer_waits_is_left_out(searcher: Counting) -> None:
    async def leave() -> None:
        searching = Searching(lambda _: searcher, lambda _: None, ServiceMetrics("one"))
        asked = [asyncio.create_task(searching.ask(Question(vector=q))) for q in QUERIES[:3]]
        await asyncio.sleep(0)
        asked[1].cancel()
        first, second, third = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(second, asyncio.CancelledError)
        expected = searcher.search_many(QUERIES[[0, 2]])
        home = searcher.collection.home_name
        assert [first, third] == [Found(home, hits) for hits in expected]
        assert await searching.ask(Question(uri=ref(START - 1).uri))

    asyncio.run(leave())
