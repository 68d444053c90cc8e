"""A question, applied as a whole by whoever searches."""

from __future__ import annotations

import numpy as np
import pytest

from simdist.errors import UnknownImageError, UsageError
from simdist.index.collection import Collection
from simdist.search.question import Question
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, layout
from tests.collections import DIM, create, ref, vectors
from tests.command_line import CommandLine

COUNT = 600


@pytest.fixture
def searcher(store: Store) -> Searcher:
    collection = create(store, partitions=2)
    refs = [ref(i, label="odd" if i % 2 else "even") for i in range(COUNT)]
    collection.add(vectors(COUNT), refs)
    return Searcher(collection)


def test_by_vector_uri_and_id(searcher: Searcher) -> None:
    stored = searcher.collection.get(ref(5).uri)
    assert stored is not None
    by_vector = searcher.ask(Question(vector=stored.vector, n=7))
    assert by_vector == searcher.search(stored.vector, n=7)
    assert by_vector[0].uri == ref(5).uri
    assert searcher.ask(Question(uri=ref(5).uri, n=7)) == by_vector
    assert searcher.ask(Question(id=layout.uri_digest(ref(5).uri).hex(), n=7)) == by_vector


def test_a_label_and_a_lowest_score(searcher: Searcher) -> None:
    every = searcher.ask(Question(uri=ref(5).uri, n=COUNT))
    odd = [hit for hit in every if hit.label == "odd"]
    assert searcher.ask(Question(uri=ref(5).uri, n=4, label="odd")) == odd[:4]
    enough = searcher.ask(Question(uri=ref(5).uri, n=COUNT, min_score=every[20].score))
    assert enough == every[:21]
    both = Question(uri=ref(5).uri, n=4, label="odd", min_score=odd[1].score)
    assert searcher.ask(both) == odd[:2]
    assert searcher.ask(Question(uri=ref(5).uri, label="none")) == []


def test_questions_that_it_cannot_answer(searcher: Searcher) -> None:
    with pytest.raises(UnknownImageError, match="nowhere is not indexed in 'test'"):
        searcher.ask(Question(uri="file:///nowhere"))
    with pytest.raises(UnknownImageError, match="not indexed"):
        searcher.ask(Question(id="00" * 12))
    for question in (Question(), Question(image=b"..."), Question(url="http://example.org")):
        with pytest.raises(UsageError, match="by a vector"):
            searcher.ask(question)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"uri": "a", "id": "00" * 12}, "one of"),
        ({"n": 0}, "between 1 and 10000"),
        ({"n": 10_001}, "between 1 and 10000"),
        ({"recall": 0.0}, "above 0"),
        ({"recall": float("nan")}, "above 0"),
        ({"min_score": 1.5}, "from -1 to 1"),
        ({"min_score": float("nan")}, "from -1 to 1"),
    ],
)
def test_a_question_that_makes_no_sense(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question(**wrong)  # type: ignore[arg-type]


def test_names_of_ones_own_on_the_command_line(cli: CommandLine, photos: Collection) -> None:
    """An image that is indexed under such a name is found by it; no file is looked for."""
    [first, *_] = photos.images()
    named = ImageRef("urn:shop:4711", "1", 1, "shop", metadata={"price": 3})
    photos.add(first.vector[None], [named])
    result = cli.run("search", "urn:shop:4711", "-c", "photos", "-n", "2", "--json")
    assert result.code == 0, result.err
    assert {"urn:shop:4711", first.uri} == {
        uri for uri in (named.uri, first.uri) if f'"{uri}"' in result.out
    }
    assert '"price": 3' in result.out
    missing = cli.fail("search", "urn:shop:1", "-c", "photos")
    assert "urn:shop:1 is not indexed in the collection 'photos'" in missing


def test_labels_and_scores_on_the_command_line(cli: CommandLine, photos: Collection) -> None:
    uri = next(image.uri for image in photos.images() if image.label == "fish")
    result = cli.run("search", uri, "-c", "photos", "-n", "3", "--label", "tools")
    assert result.code == 0, result.err
    lines = result.out.splitlines()[1:]
    assert len(lines) == 3
    assert all(line.split()[2] == "tools" for line in lines)
    result = cli.run("search", uri, "-c", "photos", "-n", "100", "--min-score", "0.999")
    assert len(result.out.splitlines()) == 2
    assert "from -1 to 1" in cli.fail("search", uri, "--min-score", "2", code=2)


def test_metadata_of_an_added_image_is_kept(store: Store) -> None:
    collection = create(store)
    named = ImageRef("urn:shop:4711", "1", 1, None, metadata={"price": 3, "tags": ["a", "b"]})
    collection.add(vectors(1), [named])
    [hit] = Searcher(collection).search(np.ones(DIM, np.float32))
    assert hit.metadata == {"price": 3, "tags": ["a", "b"]}
