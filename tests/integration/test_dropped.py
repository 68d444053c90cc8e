"""A collection is dropped at any command of whoever uses it: clear answers, and nothing is left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from simdist.errors import CollectionError, MissingCollectionError
from simdist.index import blocks, catalogue, dropping, growth
from simdist.index.amending import Amendment, amend
from simdist.index.check import check
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.deleting import delete_chosen
from simdist.index.inventory import describe, describe_all
from simdist.index.offloading import bring_back, offload
from simdist.index.rehash import rehash
from simdist.index.scrolling import EVERYTHING, scroll, selected
from simdist.index.tuning import tune
from simdist.ingest.failures import Failure, keep
from simdist.joining.decisions import Decisions
from simdist.joining.duplicates import find_duplicates
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, layout, name_scripts
from simdist.transfer.exporting import export
from tests.collections import START, add_range, create, filled, ref, vectors
from tests.index_contents import contents
from tests.servers import empty, keys

pytestmark = pytest.mark.slow

Use = Callable[[Collection, Path], object]
ANEW = 40


def outgrow(collection: Collection, _: Path) -> None:
    add_range(collection, START, 2 * START)


def delete(collection: Collection, _: Path) -> None:
    collection.delete([ref(i).uri for i in range(0, START, 2)])


def change(collection: Collection, _: Path) -> None:
    amend(collection, [ref(i).uri for i in range(30)], Amendment("new"))


def delete_all(collection: Collection, _: Path) -> None:
    delete_chosen(collection, selected(collection, EVERYTHING), EVERYTHING)


def make_other_tables(collection: Collection, _: Path) -> None:
    rehash(collection, kind="hyperplanes", size=6, tables=2)


def move(collection: Collection, folder: Path) -> None:
    offload(collection, str(folder), bits=4)
    bring_back(collection)


def look(collection: Collection, _: Path) -> None:
    check(collection)
    describe(collection)
    list(collection.images())
    scroll(collection, n=2 * START)
    collection.get(ref(3).uri)


def measure(collection: Collection, _: Path) -> None:
    tune(collection.partitions, queries=5)


def ask(collection: Collection, _: Path) -> None:
    searcher = Searcher(collection, max_staleness=0)
    for query in vectors(3):
        searcher.search(query, n=20)


def note(collection: Collection, _: Path) -> None:
    decisions = Decisions(keep=frozenset({ref(1).uri}))
    decisions.add_to(collection)
    decisions.take_from(collection)
    keep(collection, [Failure("x", "list", "is bad")], source="photos")


def join(collection: Collection, _: Path) -> None:
    find_duplicates(collection)


def write_out(collection: Collection, folder: Path) -> None:
    export(collection, str(folder))


def duplicate(collection: Collection, _: Path) -> None:
    copy(collection.store, "test", "other")


def dropped(store: Store) -> None:
    dropping.drop(store, "test")


def closed(store: Store) -> None:
    """A drop that is killed as soon as the collection is gone, with all its keys there still."""
    dropping.begin_drop(store, "test")
    name_scripts.close(store, layout.Keys("test").meta)


def made_anew(store: Store) -> None:
    dropping.drop(store, "test")
    create(store).add(vectors(ANEW, seed=9), [ref(i, version=9) for i in range(ANEW)])


USES = [outgrow, delete, change, delete_all, make_other_tables, move, look, measure, ask, note]
# Commands that are left when all of the work is done, but for old tables, leases and names; or when
# all is read that a drop does not take away at once.
LEFT: dict[Use, int] = {outgrow: 6, make_other_tables: 3, join: 3}
CLEAR = (
    "|the collection 'test' is gone: ingest it again"
    "|there is no collection 'test'.*"
    "|the collection 'test' was lost, and made anew meanwhile: run the same command again"
)


@pytest.mark.parametrize("end", [dropped, closed, made_anew])
@pytest.mark.parametrize("use", [*USES, join, write_out])
def test_a_collection_is_dropped_at_any_command(
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    use: Use,
    end: Callable[[Store], None],
) -> None:
    monkeypatch.setattr(growth, "GROWTH", 2)
    monkeypatch.setattr(growth, "FILL_BATCH", 128)
    monkeypatch.setattr(growth, "_POLL_SECONDS", 0)
    monkeypatch.setattr(blocks, "_BLOCKS", 2)
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        answers = list(every_answer(store, other, use, end, tmp_path))
    silent = answers.count("")
    assert silent < len(answers)
    assert silent <= LEFT.get(use, 0)
    assert answers[len(answers) - silent :] == [""] * silent
    assert [text for text in answers if not re.fullmatch(CLEAR, text)] == []


@pytest.mark.parametrize("end", [dropped, closed, made_anew])
def test_it_is_copied_whole_or_not_at_all(
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: Callable[[Store], None],
) -> None:
    monkeypatch.setattr(blocks, "_BLOCKS", 2)
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        found = set()
        for said in every_answer(store, other, duplicate, end, tmp_path):
            if there := catalogue.names(other):
                assert there == ["other"]
                found.add(len(contents(Collection.open(other, "other"))))
                dropping.drop(other, "other")
            assert said == "" or not there
            assert re.fullmatch(CLEAR, said)
    assert found == {START, ANEW} if end is made_anew else {START}


def test_what_is_left_is_listed(valkey_url: str) -> None:
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        found, at, ended = set(), 0, [0]
        while ended:
            empty(other)
            filled(other)
            create(other, "other")
            with pytest.MonkeyPatch.context() as patch:
                ended = before_command(patch, store, at, partial(dropped, other))
                found.add(tuple(one.name for one in describe_all(store)))
            at += 1
    assert at > 10
    assert found == {("other",), ("other", "test")}


def every_answer(
    store: Store, other: Store, use: Use, end: Callable[[Store], None], folder: Path
) -> Iterator[str]:
    """What is said if the collection ends before the first command, the second, and so on."""
    for at in range(1000):
        empty(other)
        filled(other)
        collection, said = Collection.open(store, "test"), ""
        with pytest.MonkeyPatch.context() as patch:
            ended = before_command(patch, store, at, partial(end, other))
            try:
                use(collection, folder / str(at))
            except CollectionError as error:
                said = str(error)
        if not ended:
            return
        if end is made_anew:
            new = Collection.open(other, "test")
            assert contents(new) == sorted(ref(i).uri for i in range(ANEW))
            assert check(new)[0].damages == []
            dropping.drop(other, "test")
        dropping.finish(other, dropping.begun(other, "test"))
        yield said
        # One that was begun only.
        with suppress(MissingCollectionError):
            dropping.drop(other, "other")
        assert keys(other, "*") == []


def before_command(
    patch: pytest.MonkeyPatch, store: Store, at: int, do: Callable[[], None]
) -> list[int]:
    """Do something before a command of a store; returns a list that has it as soon as it is so."""
    sent, done = count(), list[int]()
    for name in ("call", "call_many", "run"):
        method = getattr(Store, name)

        def call(self: Store, *rest: Any, method: Any = method, **options: Any) -> Any:
            if self is store and next(sent) == at:
                done.append(at)
                do()
            return method(self, *rest, **options)

        patch.setattr(Store, name, call)
    return done
