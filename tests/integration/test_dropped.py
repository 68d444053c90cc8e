"""A collection is dropped at any command of whoever uses it: clear answers, and nothing is left."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest

from simdist.errors import CollectionError
from simdist.images.thumbnails import Shelf
from simdist.index import blocks, catalogue, dropping, growth
from simdist.index.amending import Amendment, amend
from simdist.index.check import check
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.deleting import delete_chosen
from simdist.index.inventory import describe, describe_all
from simdist.index.offloading import bring_back, offload
from simdist.index.rehash import rehash
from simdist.index.repair import repair
from simdist.index.scrolling import EVERYTHING, scroll, selected
from simdist.index.thumbnails import make_thumbnails
from simdist.index.tuning import tune
from simdist.ingest.failures import Failure, forget, keep
from simdist.joining.decisions import Decisions, forget_decisions
from simdist.joining.duplicates import find_duplicates
from simdist.joining.folder import Folder
from simdist.joining.job import plan_job
from simdist.joining.plan import Wanted
from simdist.joining.removing import mark, remove, remove_marked
from simdist.joining.whole import read_whole
from simdist.search.searcher import Searcher
from simdist.sources import Access
from simdist.store import Store, connect, layout
from simdist.transfer.exporting import export
from tests.collections import START, add_range, create, filled, ref, vectors
from tests.conftest import LONG
from tests.endings import (
    ANEW,
    CLEAR,
    ENDS,
    End,
    Use,
    before_command,
    closed,
    dropped,
    every_answer,
    made_anew,
    made_anew_in_parts,
)
from tests.index_contents import contents
from tests.servers import empty, keys

pytestmark = pytest.mark.slow
# A repair's commands are many: each by one of the three ways in which it ends.
STEP = 1 if LONG else 3


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


def tidy(collection: Collection, _: Path) -> None:
    found = find_duplicates(collection)
    remove(collection, found.whole, [ref(i).uri for i in range(0, 40, 2)])
    mark(collection, [ref(i).uri for i in range(1, 40, 2)])
    remove_marked(collection)
    Decisions(keep=frozenset({ref(1).uri})).add_to(collection)
    forget_decisions(collection)
    forget(collection, [ref(1).uri])


def compare(collection: Collection, folder: Path) -> None:
    """As `simdist neighbours` does it, but for Ray."""
    written = Folder.at(str(folder))
    whole = read_whole(collection, lambda *_: None)
    job = plan_job(collection, whole, Wanted(5, no_duplicates=True), lambda *_: None)
    written.begin(job.plan)
    for number in range(len(job.bounds) - 1):
        written.keep(number, job.run(number))
    written.finish(job.plan, whole)


def draw(collection: Collection, folder: Path) -> None:
    shelf = Shelf(folder, room=10**6)
    access = Access.resolve()
    make_thumbnails(
        collection, shelf, roots=[], access=access, threads=1, on_progress=lambda *_: None
    )


def write_out(collection: Collection, folder: Path) -> None:
    export(collection, str(folder))


def duplicate(collection: Collection, _: Path) -> None:
    copy(collection.store, "test", "other")


def mend(collection: Collection, _: Path) -> None:
    """As `simdist check --repair` does it, which opens the collection itself."""
    opened = Collection.open(collection.store, "test")
    repair(opened, check(opened))


def damaged(loss: Callable[[Store, layout.Keys], object], store: Store) -> None:
    """A collection of two partitions, one of which has lost something."""
    collection = create(store, partitions=2)
    add_range(collection, 0, START)
    collection.delete(ref(i).uri for i in range(0, START, 3))
    loss(store, collection.partitions[1].keys)


def lose_state(store: Store, keys: layout.Keys) -> None:
    store.call("DEL", keys.meta)


def lose_fields(store: Store, keys: layout.Keys) -> None:
    store.call("HDEL", keys.meta, "born", "epoch", "live")


def lose_data(store: Store, keys: layout.Keys) -> None:
    store.call("DEL", keys.records(0))
    store.call("SETRANGE", keys.records(1), 4 * layout.BLOCK + 5, b"\xff")
    for key in [*store.scan(keys.pattern("family"))]:
        store.call("DEL", key.decode())


USES = [outgrow, delete, change, delete_all, make_other_tables, move, look, measure, ask, note]
# Commands that are left when all of the work is done, but for old tables, leases and names; or when
# all is read that a drop does not take away at once.
LEFT: dict[Use, int] = {outgrow: 6, make_other_tables: 3, join: 3, compare: 4}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("use", [*USES, tidy, join, compare, write_out])
def test_a_collection_is_dropped_at_any_command(
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    use: Use,
    end: End,
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


@pytest.mark.parametrize("end", [dropped, closed, made_anew_in_parts])
@pytest.mark.parametrize("loss", [lose_state, lose_fields, lose_data])
def test_nothing_comes_back_by_a_repair(
    valkey_url: str,
    tmp_path: Path,
    loss: Callable[[Store, layout.Keys], object],
    end: End,
) -> None:
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        make = partial(damaged, loss)
        answers = list(every_answer(store, other, mend, end, tmp_path, make=make, step=STEP))
    # What was made anew before it was opened is whole.
    assert len(answers) > 20 // STEP
    assert answers.count("") <= 2
    assert [text for text in answers if not re.fullmatch(CLEAR, text)] == []


def test_a_repair_at_any_command_of_a_drop(valkey_url: str, tmp_path: Path) -> None:
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:

        def mended() -> None:
            with suppress(CollectionError):
                mend(Collection.open(other, "test"), tmp_path)

        at, ended = 0, [0]
        while ended:
            empty(other)
            damaged(lose_state, other)
            with pytest.MonkeyPatch.context() as patch:
                ended = before_command(patch, store, at, mended)
                dropped(store)
            assert keys(other, "*") == []
            at += 1
    assert at > 20


@pytest.mark.parametrize("end", ENDS)
def test_thumbnails_of_one_that_is_dropped(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: End
) -> None:
    monkeypatch.setattr(blocks, "_BLOCKS", 2)
    make = partial(filled, count=20)
    with closing(connect(valkey_url)) as store, closing(connect(valkey_url)) as other:
        answers = list(every_answer(store, other, draw, end, tmp_path, make=make))
    assert answers.count("") == 0
    assert [text for text in answers if not re.fullmatch(CLEAR, text)] == []


@pytest.mark.parametrize("end", ENDS)
def test_it_is_copied_whole_or_not_at_all(
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: End,
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
                found.add(tuple(one.name for one in describe_all(store)[0]))
            at += 1
    assert at > 10
    assert found == {("other",), ("other", "test")}
