"""`simdist eval`: figures against what is calculated here in another way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from simdist.errors import CollectionError, UsageError
from simdist.evaluation import evaluate
from simdist.index.collection import Collection
from simdist.settings import MAX_RESULTS
from simdist.sources import ImageRef
from simdist.store import Store, connect
from tests.command_line import CommandLine


def noise(count: int, dim: int = 32, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors around ten centres."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(10, dim))
    vectors = centres[np.arange(count) % 10] + 0.8 * generator.normal(size=(count, dim))
    return vectors.astype(np.float32)


def refs(labels: list[str | None]) -> list[ImageRef]:
    return [ImageRef(f"file:///{n}.jpg", "1-1", 1, label) for n, label in enumerate(labels)]


def made(
    store: Store, labels: list[str | None], vectors: NDArray[np.float32], *, partitions: int = 1
) -> Collection:
    collection = Collection.create(
        *(store, "made"), model="m", model_id="m-1", dim=vectors.shape[1], partitions=partitions
    )
    collection.add(vectors, refs(labels))
    return collection


def by_hand(
    labels: list[str | None], vectors: NDArray[np.float32], k: int
) -> tuple[float, float, float]:
    """Agreement, precision@k and mAP@k of exact search, of each image among all others."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    first, shares, averages = [], [], []
    for number, label in enumerate(labels):
        others = sum(other == label for other in labels) - 1
        if label is None or not others:
            continue
        right = [labels[hit] == label for hit in np.argsort(-scores[number])[:k]]
        first.append(right[0])
        shares.append(sum(right) / k)
        found = [sum(right[: rank + 1]) / (rank + 1) for rank in range(k) if right[rank]]
        averages.append(sum(found) / min(k, others))
    return float(np.mean(first)), float(np.mean(shares)), float(np.mean(averages))


LABELS: list[str | None] = [*(f"c{n % 10 // 2}" for n in range(397)), None, "alone", "c0"]


@pytest.mark.parametrize("partitions", [1, 3])
def test_the_figures_are_those_of_exact_search_where_every_bucket_is_looked_up(
    store: Store, partitions: int
) -> None:
    vectors = noise(400)
    collection = made(store, LABELS, vectors, partitions=partitions)
    found = evaluate(collection, queries=1000, k=7, recall=1)
    assert (found.images, found.queries, found.k) == (400, 400, 7)
    assert found.recall == 1
    assert found.candidates == 400
    agreement, precision, average = by_hand(LABELS, vectors, 7)
    assert found.overall is not None
    # Vectors are stored as int8: a few neighbours change places.
    assert found.overall.queries == 398
    assert found.overall.agreement == pytest.approx(agreement, abs=0.01)
    assert found.overall.precision == pytest.approx(precision, abs=0.005)
    assert found.overall.average_precision == pytest.approx(average, abs=0.005)
    assert found.precision_at[0] == found.overall.agreement
    assert found.precision_at[-1] == found.overall.precision
    assert sorted(found.categories) == ["c0", "c1", "c2", "c3", "c4"]
    assert sum(of.queries for of in found.categories.values()) == 398
    assert found.mean_category is not None
    each = [of.agreement for of in found.categories.values()]
    assert found.mean_category.agreement == pytest.approx(sum(each) / 5)
    assert 0 < found.median_ms <= found.slow_ms


def test_the_worst_come_first(store: Store) -> None:
    collection = made(store, LABELS, noise(400))
    found = evaluate(collection, queries=1000, recall=1)
    averages = [answer.average_precision or 0 for answer in found.worst]
    assert len(averages) == 10
    assert averages == sorted(averages)
    assert found.overall is not None
    assert averages[-1] < found.overall.average_precision
    for answer in found.worst:
        assert len(answer.hits) == 10
        assert answer.query.uri not in [hit.uri for hit in answer.hits]


def test_fewer_probes_find_less_and_it_shows(store: Store) -> None:
    vectors = noise(3000)
    collection = made(store, [f"c{n % 10}" for n in range(3000)], vectors)
    whole = evaluate(collection, queries=300, recall=1)
    usual = evaluate(collection, queries=300)
    assert usual.candidates < whole.candidates == 3000
    assert 0.5 < usual.recall <= whole.recall == 1
    assert 300 <= usual.queries < 350


def test_queries_are_drawn_by_the_seed(store: Store) -> None:
    collection = made(store, [f"c{n % 10}" for n in range(1000)], noise(1000))

    def figures(seed: int) -> object:
        found = evaluate(collection, queries=100, seed=seed)
        return replace(found, median_ms=0, slow_ms=0, worst=())

    assert figures(1) == figures(1) != figures(2)


def test_deleted_images_are_neither_asked_for_nor_counted(store: Store) -> None:
    labels: list[str | None] = ["a", "a", *["b"] * 50]
    collection = made(store, labels, noise(52))
    collection.delete(["file:///0.jpg"])
    found = evaluate(collection, queries=100)
    assert found.images == found.queries == 51
    # The other one is alone now.
    assert list(found.categories) == ["b"]


def test_without_labels_there_is_no_precision(store: Store) -> None:
    found = evaluate(made(store, [None] * 40, noise(40)))
    assert found.overall is None
    assert found.categories == {}
    assert found.worst == ()
    assert found.recall == 1


def test_a_collection_that_cannot_be_evaluated_says_why(store: Store) -> None:
    collection = made(store, ["a"], noise(1))
    with pytest.raises(CollectionError, match="needs at least two images"):
        evaluate(collection)
    for k in (0, MAX_RESULTS):
        with pytest.raises(UsageError, match="k must be between"):
            evaluate(collection, k=k)
    empty = Collection.create(store, "empty", model="m", model_id="m-1", dim=32)
    with pytest.raises(CollectionError, match="is empty"):
        evaluate(empty)


# The command.


@pytest.mark.usefixtures("photos")
def test_the_command_shows_the_figures(cli: CommandLine) -> None:
    result = cli.run("eval", "-c", "photos", "-k", "5")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert lines[0] == "154 of 154 images of photos searched for:"
    figures = {line.rsplit(maxsplit=1)[0]: line.rsplit(maxsplit=1)[1] for line in lines[2:12]}
    assert figures["recall@5 against exact search"] == "1.000"
    assert float(figures["nearest neighbour has the same label"]) > 0.9
    assert float(figures["precision@5"]) > 0.85
    assert float(figures["precision@5, mean of categories"]) > 0.85
    assert lines[13].split() == [
        "worst",
        "categories",
        "queries",
        "nearest",
        "precision@5",
        "mAP@5",
    ]
    assert lines[14].split()[0] == "animals"
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.usefixtures("photos")
def test_json_and_pictures(cli: CommandLine, tmp_path: Path) -> None:
    plot, sheet = tmp_path / "plot.png", tmp_path / "worst.jpg"
    result = cli.run(*("eval", "-c", "photos", "--json", "--plot", str(plot), "--out", str(sheet)))
    found = json.loads(result.out)
    assert found["overall"]["queries"] == found["queries"] == 154
    assert len(found["precision_at"]) == found["k"] == 10
    assert found["categories"]["fish"]["precision"] > 0.8
    assert len(found["worst"]) == 10
    assert found["worst"][0]["hits"][0]["uri"].startswith("file:///")
    with Image.open(plot) as picture:
        assert picture.size == (990, 495)
    with Image.open(sheet) as picture:
        assert picture.height > 10 * 224
    assert f"Plot: {plot}" in result.err


@pytest.mark.usefixtures("photos")
def test_invalid_arguments_are_reported_first(cli: CommandLine, tmp_path: Path) -> None:
    assert "must end in" in cli.fail("eval", "-c", "photos", "--plot", "plot.txt", code=2)
    assert "must end in" in cli.fail("eval", "-c", "photos", "--out", "sheet.txt", code=2)
    assert "no folder" in cli.fail("eval", "--plot", str(tmp_path / "no" / "plot.png"), code=2)
    assert "there is no collection 'nothing'" in cli.fail("eval", "-c", "nothing")
    assert "have not been measured" in cli.fail("eval", "-c", "photos", "--recall", "0.9")
    cli.fail("eval", "-c", "photos", "-k", "0", code=2)


def test_pictures_of_unlabelled_images_are_refused(
    cli: CommandLine, valkey_url: str, tmp_path: Path
) -> None:
    store = connect(valkey_url)
    made(store, [None] * 9, noise(9))
    store.close()
    plot = tmp_path / "plot.png"
    assert "label in common" in cli.fail("eval", "-c", "made", "--plot", str(plot))
    assert not plot.exists()
    result = cli.run("eval", "-c", "made", "--json")
    assert json.loads(result.out)["overall"] is None
