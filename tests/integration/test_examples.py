"""Several examples in one question: what they find, and what cannot be asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simdist.embedding import Embedder
from simdist.errors import UnknownImageError, UsageError, VectorError
from simdist.images.parts import Part
from simdist.index.collection import Collection
from simdist.search.examples import UNLIKE, settled
from simdist.search.question import MAX_EXAMPLES, MAX_WEIGHT, Example, Question
from simdist.search.searcher import Searcher
from simdist.store import Store, layout
from tests.collections import DIM, create, ref, vectors
from tests.command_line import CommandLine
from tests.conftest import QUERIES

COUNT = 300
VECTORS = vectors(COUNT)


@pytest.fixture
def searcher(store: Store) -> Searcher:
    collection = create(store, partitions=2)
    collection.add(VECTORS, [ref(i, label="odd" if i % 2 else "even") for i in range(COUNT)])
    return Searcher(collection)


def unit(searcher: Searcher, i: int) -> np.ndarray:
    stored = searcher.collection.get(ref(i).uri)
    assert stored is not None
    return stored.vector


def test_they_are_searched_by_one_vector(searcher: Searcher) -> None:
    one, two, three = (unit(searcher, i) for i in (1, 2, 3))
    asked = Question(
        like=[
            Example(uri=ref(1).uri, weight=3),
            Example(id=layout.uri_digest(ref(2).uri).hex()),
        ],
        unlike=[Example(vector=7 * three)],
        n=10,
    )
    vector = (3 * one + two) / 4 - UNLIKE * three
    found = settled(searcher.collection, asked)
    np.testing.assert_allclose(np.asarray(found.vector), vector, atol=1e-6)
    every = searcher.search(vector, n=12)
    named = {ref(1).uri, ref(2).uri}
    assert ref(1).uri in {hit.uri for hit in every}
    hits = searcher.ask(asked)
    assert [hit.uri for hit in hits] == [hit.uri for hit in every if hit.uri not in named][:10]
    assert len(hits) == 10


def test_one_way_with_something_unlike_it(searcher: Searcher) -> None:
    asked = Question(uri=ref(1).uri, unlike=[Example(uri=ref(3).uri)], n=COUNT)
    vector = unit(searcher, 1) - UNLIKE * unit(searcher, 3)
    others = searcher.search(vector, n=COUNT)
    expected = [hit.uri for hit in others if hit.uri not in (ref(1).uri, ref(3).uri)]
    assert [hit.uri for hit in searcher.ask(asked)] == expected


def test_other_options_hold(searcher: Searcher) -> None:
    like = [Example(uri=ref(i).uri) for i in (1, 3, 5)]
    hits = searcher.ask(Question(like=like, label="odd", n=4))
    assert len(hits) == 4
    assert {hit.label for hit in hits} == {"odd"}
    assert not {hit.uri for hit in hits} & {ref(i).uri for i in (1, 3, 5)}
    best = searcher.ask(Question(like=like, n=COUNT, min_score=hits[-1].score))
    assert best[-1].score >= hits[-1].score


def test_what_cannot_be_asked(searcher: Searcher) -> None:
    one = Example(vector=VECTORS[0])
    with pytest.raises(UsageError, match="an example is one of"):
        Example()
    with pytest.raises(UsageError, match="an example is one of"):
        Example(uri="a", id="b")
    for weight in (0, -1, MAX_WEIGHT + 1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="weight"):
            Example(uri="a", weight=weight)
    with pytest.raises(UsageError, match="or like, not by several"):
        Question(uri="a", like=[one])
    with pytest.raises(UsageError, match="what hits are to be like, too"):
        Question(unlike=[one])
    with pytest.raises(UsageError, match=f"at most {MAX_EXAMPLES}"):
        Question(like=[one] * MAX_EXAMPLES, unlike=[one])
    with pytest.raises(UnknownImageError, match="urn:nowhere is not indexed"):
        searcher.ask(Question(like=[one, Example(uri="urn:nowhere")]))
    with pytest.raises(UsageError, match="by a vector"):
        searcher.ask(Question(like=[one, Example(url="http://example.org")]))
    against = Example(vector=-VECTORS[0])
    with pytest.raises(VectorError, match="cancel"):
        searcher.ask(Question(like=[one, against]))
    for wrong in (np.ones(DIM + 1), np.zeros(DIM), np.full(DIM, np.nan)):
        with pytest.raises(VectorError):
            searcher.ask(Question(like=[one, Example(vector=wrong)]))


def test_on_the_command_line(cli: CommandLine, searcher: Searcher, store: Store) -> None:
    options = ("-c", searcher.collection.name, "--redis", store.url, "--json", "-n", "5")
    named = [ref(i).uri for i in (1, 2, 3)]
    answer = cli.run(
        "search", "--like", named[0], "--like", named[1], "--unlike", named[2], *options
    )
    assert answer.code == 0, answer.err
    [found] = json.loads(answer.out)
    like, unlike = [Example(uri=uri) for uri in named[:2]], [Example(uri=named[2])]
    hits = searcher.ask(Question(like=like, unlike=unlike, n=5))
    assert [hit["uri"] for hit in found["hits"]] == [hit.uri for hit in hits]
    assert found["query"] == " + ".join(named[:2])
    for wrong, words in (
        ((), "name an image to search by"),
        (("a.jpg", "--like", "b.jpg"), "not both"),
        (("a.jpg", "b.jpg", "--unlike", "c.jpg"), "--unlike"),
    ):
        answer = cli.run("search", *wrong, *options)
        assert answer.code == 2, answer.err
        assert words in " ".join(answer.err.split())


def test_a_part_of_a_picture(cli: CommandLine, photos: Collection, embedder: Embedder) -> None:
    fish, tool = (QUERIES / name for name in ("fish.jpg", "tool.jpg"))
    text = "0.25,0.1,0.5,0.6"
    [part, whole] = embedder.embed_images(
        [Part.parse(text).cut(fish.read_bytes()), tool.read_bytes()]
    )
    searcher = Searcher(photos)

    def found(*arguments: str) -> list[str]:
        answer = cli.run("search", *arguments, "-c", "photos", "--json", "-n", "5")
        assert answer.code == 0, answer.err
        return [hit["uri"] for hit in json.loads(answer.out)[0]["hits"]]

    expected = [hit.uri for hit in searcher.search(part, n=5)]
    assert found(str(fish), "--crop", text) == expected
    assert found(str(fish)) != expected
    # Also of an image that is indexed, of which the whole is stored; and of several the first.
    first = searcher.collection.get(expected[0])
    assert first is not None
    assert found(expected[0], "--crop", "0,0,0.3,0.3")[0] != expected[0]
    like = [Example(vector=part), Example(vector=whole)]
    several = [hit.uri for hit in searcher.ask(Question(like=like, n=5))]
    assert found("--like", str(fish), "--like", str(tool), "--crop", text) == several
    assert "no part of an image" in cli.fail("search", str(fish), "--crop", "9,9,9,9", code=2)
    assert "not indexed" in cli.fail("search", "urn:a", "-c", "photos", "--crop", "0,0,1,1")
