"""Single images of a collection: listed page by page, labelled, deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdist.errors import UsageError
from simdist.index import amending
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.commit import commit_batch
from simdist.index.deleting import delete_chosen
from simdist.index.partition import Partition
from simdist.index.scrolling import Choice, scroll, selected
from simdist.index.where import Where
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef, file_uri
from simdist.store import Store, connect
from tests.collections import DIM, create, ref, vectors
from tests.command_line import CommandLine
from tests.index_contents import contents
from tests.servers import empty, on_every_server


def pages(collection: Collection, n: int, **options: Any) -> Iterator[list[str]]:
    """The URIs of all pages."""
    after = None
    while True:
        page = scroll(collection, n=n, after=after, **options)
        yield [record.uri for record in page.images]
        after = page.next
        if after is None:
            return


def filled(store: Store, count: int = 200, **options: Any) -> Collection:
    collection = create(store, **options)
    refs = [ref(i, label=f"label {i % 3}" if i % 3 else None) for i in range(count)]
    collection.add(vectors(count), refs)
    return collection


@pytest.mark.slow
@on_every_server
def test_labels_and_metadata_change_without_the_image(store: Store) -> None:
    collection = filled(store, partitions=2)
    searcher = Searcher(collection, max_staleness=0)
    data = vectors(200)
    [before] = searcher.search(data[5], n=1)
    vector = collection.get(ref(5).uri)
    uris = [ref(5).uri, ref(6).uri, "file:///none.jpg", ref(5).uri]
    change = Amendment(label="new", metadata={"a": 1, "b": {"c": [1], "d": 2}})
    assert amend(collection, uris, change) == 2
    [hit] = searcher.search(data[5], n=1)
    assert (hit.uri, hit.label, hit.metadata) == (before.uri, "new", change.metadata)
    assert hit.score == before.score
    changed = collection.get(ref(5).uri)
    assert vector is not None
    assert changed is not None
    assert np.array_equal(changed.vector, vector.vector)
    # The content is known still, so that no ingest embeds it again.
    assert collection.known([ref(5), ref(6)]).all()
    # What is so already is not written.
    states = [partition.state() for partition in collection.partitions]
    assert amend(collection, uris, change) == 2
    assert [partition.state() for partition in collection.partitions] == states
    assert amend(collection, uris, Amendment(unlabel=True, metadata={"b": {"c": None}})) == 2
    [hit] = searcher.search(data[6], n=1)
    assert (hit.label, hit.metadata) == (None, {"a": 1, "b": {"d": 2}})
    assert contents(collection) == sorted(ref(i).uri for i in range(200))
    # Filters see it, too, and what is chosen by one is changed.
    assert [hit.uri for hit in searcher.search(data[6], n=9, where="a = 1 and b exists")] == [
        ref(6).uri,
        ref(5).uri,
    ]
    chosen = Choice(where=Where.parse("a = 1"))
    assert amend(collection, selected(collection, chosen), Amendment(metadata={"a": 2})) == 2
    assert not searcher.search(data[6], n=9, where="a = 1")
    assert len(searcher.search(data[6], n=9, where="a = 2")) == 2
    with pytest.raises(UsageError, match="cannot be changed so: its label has"):
        amend(collection, uris, Amendment(label="x" * 70_000))


def test_what_changes_meanwhile_is_not_undone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(store)
    writes = iter([0])

    def late(*rest: Any, **options: Any) -> bytes:
        if next(writes, None) is not None:
            collection.add(-vectors(1), [ref(0, version=1, label="other")])
            collection.delete([ref(1).uri])
            amend(collection, [ref(2).uri], Amendment(metadata={"by": "somebody"}))
        return commit_batch(*rest, **options)

    monkeypatch.setattr(amending, "commit_batch", late)
    uris = [ref(i).uri for i in range(4)]
    assert amend(collection, uris, Amendment(metadata={"x": 1})) == 3
    first, second, third = (collection.get(uri) for uri in uris[:3])
    assert first is not None
    assert third is not None
    assert second is None
    assert first.label == "other"
    assert first.metadata == {"x": 1}
    assert first.vector @ vectors(1)[0] == pytest.approx(-1, abs=1e-3)
    assert third.metadata == {"by": "somebody", "x": 1}
    assert collection.known([ref(0, version=1)]).all()


def test_what_does_not_match_any_more_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody labels images between the choice and the write, or between reading and deleting."""
    collection = filled(store, count=9)
    chosen = Choice(label="label 1")
    uris = list(selected(collection, chosen))
    amend(collection, [ref(1).uri], Amendment(label="other"))
    assert amend(collection, uris, Amendment(metadata={"x": 1}), choice=chosen) == 2
    delete, turns = Partition.delete, iter(range(9))

    def late(partition: Partition, *rest: Any, **options: Any) -> bytes:
        if next(turns) == 0:
            amend(collection, [ref(4).uri], Amendment(label="other"))
            # Changed, and meant still: that one goes.
            amend(collection, [ref(7).uri], Amendment(metadata={"x": 2}))
        return delete(partition, *rest, **options)

    monkeypatch.setattr(Partition, "delete", late)
    assert delete_chosen(collection, [*uris, "file:///none.jpg"], chosen) == 1
    assert contents(collection) == [ref(i).uri for i in range(9) if i != 7]
    for number, metadata in ((1, {}), (4, {"x": 1})):
        kept = collection.get(ref(number).uri)
        assert kept is not None
        assert (kept.label, kept.metadata) == ("other", metadata)


def test_a_page_looks_at_so_many(store: Store) -> None:
    collection = filled(store, partitions=2)
    found, after, lengths = list[str](), None, list[int]()
    while True:
        page = scroll(collection, n=3, after=after, choice=Choice(label="label 2"), most=20)
        lengths.append(len(page.images))
        found += [record.uri for record in page.images]
        after = page.next
        if after is None:
            break
    assert sorted(found) == sorted(ref(i).uri for i in range(2, 200, 3))
    assert max(lengths) == 3
    assert len(scroll(collection, n=100, choice=Choice(label="label 2"), most=20).images) < 20


def test_pages_neither_skip_nor_repeat(store: Store) -> None:
    collection = filled(store, partitions=3)
    everything = [uri for page in pages(collection, 17) for uri in page]
    assert sorted(everything) == sorted(ref(i).uri for i in range(200))
    assert everything == [uri for page in pages(collection, 200) for uri in page]
    assert [len(page) for page in pages(collection, 100)] == [100, 100]
    seen: list[str] = []
    for number, page in enumerate(pages(collection, 10)):
        seen += page
        # Others come and go.
        collection.add(vectors(1, seed=number), [ref(1000 + number)])
        collection.delete([ref(number).uri])
    stayed = [ref(i).uri for i in range(number + 1, 200)]
    assert [uri for uri in stayed if seen.count(uri) != 1] == []
    chosen = Choice(prefix="file:///photos/1", label="label 1")
    expected = [i for i in range(200) if str(i).startswith("1") and i % 3 == 1 and i > number]
    found = [uri for page in pages(collection, 7, choice=chosen) for uri in page]
    assert sorted(found) == sorted(ref(i).uri for i in expected)
    assert sorted(selected(collection, chosen)) == sorted(found)
    for after in ("", "x", "3-0", "0-0-0", "-1-0"):
        with pytest.raises(UsageError, match="where no page of 'test' begins"):
            scroll(collection, n=1, after=after or "?")
    with pytest.raises(UsageError, match="at least one"):
        scroll(collection, n=0)


WRITES = st.lists(
    st.tuples(
        st.sampled_from(["add", "replace", "delete", "label", "metadata"]),
        st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True),
        st.integers(0, 3),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
@on_every_server
def test_any_writes_equal_those_of_a_dictionary(store: Store, writes: list[Any]) -> None:
    empty(store)
    collection = create(store, partitions=2)
    searcher = Searcher(collection, max_staleness=0)
    model: dict[str, dict[str, Any]] = {}
    for kind, numbers, value in writes:
        uris = [ref(number).uri for number in numbers]
        if kind in ("add", "replace"):
            seed = value if kind == "replace" else 0
            refs = [ref(number, version=seed) for number in numbers]
            collection.add(np.concatenate([vectors(1, seed=n + 7 * seed) for n in numbers]), refs)
            for number, one in zip(numbers, refs, strict=True):
                if model.get(one.uri, {}).get("version") != seed:
                    model[one.uri] = {"version": seed, "label": "things", "metadata": {}}
                    model[one.uri]["vector"] = vectors(1, seed=number + 7 * seed)[0]
        elif kind == "delete":
            assert collection.delete(uris) == len(model.keys() & set(uris))
            for uri in uris:
                model.pop(uri, None)
        else:
            by = Amendment(str(value)) if kind == "label" else Amendment(metadata={str(value): 1})
            assert amend(collection, uris, by) == len(model.keys() & set(uris))
            for uri in model.keys() & set(uris):
                model[uri]["label"] = by.label or model[uri]["label"]
                model[uri]["metadata"] = model[uri]["metadata"] | (by.metadata or {})
    assert contents(collection) == sorted(model)
    if not model:
        return
    for uri, kept in model.items():
        hits = {hit.uri: hit for hit in searcher.search(kept["vector"], n=10, probes=1000)}
        assert sorted(hits) == sorted(model)
        assert hits[uri].score == pytest.approx(1, abs=1e-3)
        for name, shown in hits.items():
            assert (shown.label, shown.metadata) == (model[name]["label"], model[name]["metadata"])


@pytest.mark.slow
def test_the_commands(cli: CommandLine, valkey_url: str, tmp_path: Path) -> None:
    inside, beside = tmp_path / "in", tmp_path / "in2"
    inside.mkdir()
    paths = [inside / "a.jpg", inside / "b.jpg", beside / "c.jpg"]
    with closing(connect(valkey_url)) as store:
        refs = [ImageRef(file_uri(path), "1", 1, "x") for path in paths]
        create(store, "images").add(vectors(3), refs)
    page = json.loads(cli.run("images", "list", "-n", "2", "--json").out)
    assert len(page["images"]) == 2
    rest = cli.run("images", "list", "-n", "2", "--after", page["next"]).out
    assert len(rest.splitlines()) == 2
    assert "More: add --after" in cli.run("images", "list", "-n", "1").out
    assert len(cli.run("images", "list", "--prefix", str(inside)).out.splitlines()) == 3
    changed = cli.run("images", "set", "--prefix", str(inside), "--label", "y", "--metadata", "{}")
    assert changed.out == "2 images changed\n"
    shown = json.loads(cli.run("images", "get", str(paths[0])).out)
    assert shown == {"uri": refs[0].uri, "label": "y", "metadata": {}}
    assert len(json.loads(cli.run("images", "get", refs[0].uri, "--vector").out)["vector"]) == DIM
    assert "not indexed in 'images'" in cli.fail("images", "get", "none.jpg")
    assert "not indexed in 'images'" in cli.fail("images", "set", "none.jpg", "--no-label")
    assert "say what is to change" in cli.fail("images", "set", "a.jpg", code=2)
    assert "say what is to change" in cli.fail(
        "images", "set", "a.jpg", "--label", "x", "--no-label", code=2
    )
    assert "JSON object" in cli.fail("images", "set", "a.jpg", "--metadata", "[1]", code=2)
    assert len(cli.run("images", "list", "--where", 'label = "y"').out.splitlines()) == 3
    assert "name the images" in cli.fail("images", "set", "--label", "x", code=2)
    assert "add --yes" in cli.fail("images", "delete", "--labelled", "y", code=2)
    assert cli.run("images", "delete", "--labelled", "y", "--yes").out == "2 images deleted\n"
    assert cli.run("images", "delete", str(paths[2])).out == "1 images deleted\n"
    assert "is not indexed" in cli.fail("images", "delete", str(paths[2]))
