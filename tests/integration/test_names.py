"""Collections as things: renamed, known by aliases, dropped, on every server."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdist.errors import (
    CollectionError,
    MissingCollectionError,
    ModelMismatchError,
    StoreError,
    UsageError,
)
from simdist.index import blocks, catalogue, dropping, growth
from simdist.index.amending import Amendment, amend
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.names import Names, remove_alias, rename, set_alias
from simdist.index.rehash import rehash
from simdist.ingest.failures import Failure, keep
from simdist.joining.decisions import Decisions
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, layout
from tests.collections import DIM, Killed, create, ref, vectors
from tests.command_line import CommandLine
from tests.index_contents import contents
from tests.servers import empty, keys, on_every_server

NAMES = ["a", "b", "c", "a.b"]


def made(store: Store, name: str, first: int = 0, count: int = 70, **options: Any) -> Collection:
    """A collection of so many images from a number on."""
    collection = create(store, name, **options)
    last = first + count
    collection.add(vectors(last)[first:], [ref(i) for i in range(first, last)])
    return collection


def best(searcher: Searcher, number: int) -> str:
    """The image that is most similar to the image of a number."""
    return searcher.search(vectors(number + 1)[number], n=1)[0].uri


@on_every_server
def test_a_renamed_collection_is_the_same(store: Store) -> None:
    collection = made(store, "old", partitions=3)
    set_alias(store, "live", "old")
    before = contents(collection)
    rename(store, "old", "new")
    assert catalogue.names(store) == ["new"]
    assert contents(Collection.open(store, "new")) == before
    assert contents(Collection.open(store, "live")) == before
    with pytest.raises(MissingCollectionError, match="no collection 'old'"):
        Collection.open(store, "old")
    # Whoever has begun goes on into it.
    collection.add(vectors(71)[70:], [ref(70)])
    assert ref(70).uri in Collection.open(store, "new")
    # The old name is free, and its collection another one.
    other = made(store, "old", first=200, count=3)
    assert len(other) == 3
    assert len(Collection.open(store, "new")) == 71
    rename(store, "new", "newer")
    dropping.drop(store, "old")
    assert len(Collection.open(store, "newer")) == 71
    with pytest.raises(MissingCollectionError):
        Collection.open(store, "old")
    rename(store, "newer", "old")
    assert catalogue.names(store) == ["old"]


@pytest.mark.parametrize("to", [b"\x80", b"", b"=", b"x"])
def test_a_damaged_name_is_told_from_one_that_is_not_there(store: Store, to: bytes) -> None:
    made(store, "a")
    store.call("HSET", layout.NAMES, "a", to)
    for use in (Names.read, lambda store: Collection.open(store, "a")):
        with pytest.raises(StoreError, match="if it is removed"):
            use(store)
    store.call("HDEL", layout.NAMES, "a")
    assert len(Collection.open(store, "a")) == 70


def test_names_that_cannot_be(store: Store) -> None:
    made(store, "one", count=1)
    made(store, "two", count=1)
    set_alias(store, "live", "one")
    for change, message in (
        (lambda: rename(store, "one", "two"), "there is a collection 'two' already"),
        (lambda: rename(store, "one", "live"), "'live' is an alias of 'one'"),
        (lambda: rename(store, "live", "x"), "'live' is an alias of 'one': rename that"),
        (lambda: rename(store, "none", "x"), "there is no collection 'none'"),
        (lambda: set_alias(store, "two", "one"), "there is a collection 'two' already"),
        (lambda: set_alias(store, "x", "none"), "there is no collection 'none'"),
        (lambda: remove_alias(store, "one"), "there is no alias 'one'"),
        (lambda: dropping.drop(store, "one"), "the alias 'live' leads to 'one'"),
        (lambda: dropping.drop(store, "live"), "'live' is an alias of 'one': drop that"),
        (lambda: dropping.drop(store, "none"), "there is no collection 'none'"),
    ):
        with pytest.raises(CollectionError, match=message):
            change()
    for name in ("", "a/b", "one~1", "!one", "{x}"):
        with pytest.raises(UsageError, match="cannot name a collection"):
            rename(store, "one", name)
        with pytest.raises(UsageError, match="cannot name a collection"):
            set_alias(store, name, "one")
    assert Names.read(store).aliases == {"live": "one"}
    assert catalogue.names(store) == ["one", "two"]


def test_what_an_earlier_version_made_has_its_name(store: Store) -> None:
    made(store, "test")
    store.call("DEL", layout.NAMES)
    assert catalogue.names(store) == ["test"]
    with pytest.raises(CollectionError, match="already"):
        rename(store, made(store, "x", count=1).name, "test")
    rename(store, "test", "new")
    assert len(Collection.open(store, "new")) == 70
    assert create(store, "test").count() == 0
    dropping.drop(store, "new")
    assert catalogue.names(store) == ["test", "x"]


def test_searches_follow_an_alias(store: Store) -> None:
    made(store, "one", partitions=2)
    made(store, "two", first=100)
    set_alias(store, "live", "one")
    alias = Collection.open(store, "live")
    searcher = Searcher(alias, max_staleness=0)
    assert best(searcher, 5) == ref(5).uri
    read = searcher.rows_read
    set_alias(store, "live", "two")
    assert best(searcher, 105) == ref(105).uri
    assert searcher.rows_read > read
    assert searcher.collection.name == "live"
    # An ingest goes on into what it has begun with.
    alias.add(vectors(300)[299:], [ref(299)])
    assert ref(299).uri in Collection.open(store, "one")
    other = Collection.create(store, "other", model="m", model_id="m-2", dim=DIM)
    other.add(vectors(2), [ref(0), ref(1)])
    set_alias(store, "live", "other")
    with pytest.raises(ModelMismatchError, match=r"m-2.*m-1"):
        best(searcher, 105)
    remove_alias(store, "live")
    with pytest.raises(MissingCollectionError, match="no collection 'live'"):
        best(searcher, 105)


@pytest.mark.slow
def test_an_alias_is_switched_while_many_ask(valkey_url: str) -> None:
    """No answer fails, and none is of both."""
    with closing(connect(valkey_url)) as store:
        empty(store)
        # The same images, under other URIs.
        for name in ("blue", "green"):
            collection = create(store, name, partitions=2)
            refs = [ref(i, label=name) for i in range(600)]
            collection.add(vectors(600), refs)
        set_alias(store, "live", "blue")
        done, wrong, seen = threading.Event(), list[object](), set[str | None]()

        def ask(number: int) -> None:
            with closing(connect(valkey_url)) as mine:
                searcher = Searcher(Collection.open(mine, "live"), max_staleness=0.01)
                while not done.is_set():
                    try:
                        hits = searcher.search(vectors(number + 1)[number], n=10)
                    except Exception as error:
                        wrong.append(error)
                        return
                    labels = {hit.label for hit in hits}
                    seen.update(labels)
                    if len(labels) != 1 or hits[0].uri != ref(number).uri:
                        wrong.append(hits)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            set_alias(store, "live", ("green", "blue")[turn % 2])
            done.wait(0.2)
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert seen == {"blue", "green"}


def full(store: Store, name: str = "test") -> Collection:
    """A collection with a key of every kind."""
    collection = made(store, name, count=300, partitions=2)
    collection.delete([ref(7).uri])
    keep(collection, [Failure("x", "list", "is bad")], source="photos")
    Decisions(keep=frozenset({"x"})).add_to(collection)
    return collection


@on_every_server
def test_nothing_is_left_of_a_dropped_collection(store: Store) -> None:
    collection = full(store)
    other = made(store, "test-2", count=3)
    shared = {layout.NAMES.encode(), layout.COLLECTIONS.encode()}
    others = set(keys(store, other.partitions[0].keys.pattern()))
    searcher = Searcher(collection, max_staleness=0)
    assert best(searcher, 5) == ref(5).uri
    dropping.drop(store, "test")
    assert set(keys(store, "*")) == shared | others
    assert catalogue.names(store) == ["test-2"]
    assert list(store.call("HGETALL", layout.NAMES)) == [b"test-2"]
    with pytest.raises(CollectionError, match="'test' is gone"):
        best(searcher, 5)
    # Nor does whoever has it open bring anything back.
    for write in (
        lambda: collection.add(vectors(2, seed=3), [ref(900), ref(901)]),
        lambda: collection.delete([ref(3).uri]),
        lambda: rehash(collection),
        lambda: keep(collection, [Failure("y", "list", "is bad")], source="photos"),
        lambda: Decisions(keep=frozenset({"y"})).add_to(collection),
    ):
        with pytest.raises(CollectionError, match="is gone"):
            write()
            collection.check_history()
    assert set(keys(store, "*")) == shared | others
    assert made(store, "test", count=3).count() == 3


def dying(patch: pytest.MonkeyPatch, survived: int) -> None:
    """Let the process die once more than so many commands are sent."""
    left = iter(range(survived))
    for name in ("call", "call_many", "run"):
        method = getattr(Store, name)

        def call(*rest: Any, method: Any = method, **options: Any) -> Any:
            if next(left, None) is None:
                raise Killed
            return method(*rest, **options)

        patch.setattr(Store, name, call)


@pytest.mark.slow
def test_a_drop_that_is_killed_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any command."""
    monkeypatch.setattr(dropping, "_UNLINKED", 60)
    for survived in range(1000):
        empty(store)
        full(store)
        try:
            with monkeypatch.context() as patch:
                dying(patch, survived)
                dropping.drop(store, "test")
        except Killed:
            if catalogue.names(store):
                assert len(Collection.open(store, "test")) == 299
            # Somebody makes another meanwhile: that one stays.
            other = made(store, "test", count=3) if not catalogue.names(store) else None
            if dropping.begun(store, "test") or other is None:
                dropping.drop(store, "test")
            left = {key for key in keys(store, "*") if b"names" not in key}
            if other is not None:
                assert len(Collection.open(store, "test")) == 3
                left -= set(keys(store, other.partitions[0].keys.pattern()))
                left -= {layout.COLLECTIONS.encode()}
            assert left == set()
        else:
            assert survived > 20
            return
    raise AssertionError("it never ends")


@on_every_server
def test_a_copy_is_another_collection(store: Store) -> None:
    collection = full(store)
    set_alias(store, "live", "test")
    made_copy = copy(store, "live", "copy")
    assert contents(made_copy) == contents(collection)
    data = vectors(300)
    hits = [Searcher(one).search_many(data[:20], n=30) for one in (collection, made_copy)]
    assert hits[0] == hits[1]
    made_copy.delete([ref(1).uri])
    assert ref(1).uri in collection
    with pytest.raises(CollectionError, match="already"):
        copy(store, "test", "copy")
    with pytest.raises(MissingCollectionError):
        copy(store, "none", "x")
    remove_alias(store, "live")
    for name in ("copy", "test"):
        dropping.drop(store, name)
    assert keys(store, "*") == []


@pytest.mark.slow
def test_a_copy_of_a_collection_that_has_lost_whole_blocks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_BLOCKS", 1)
    count = 4 * layout.BLOCK
    original = create(store)
    original.add(vectors(count), [ref(i) for i in range(count)])
    # All of the first block, of one between others, and of the last one; then everything.
    original.delete(
        record.uri
        for block in list(original.partitions[0].images())
        for row, record in zip(block.rows, block.records, strict=True)
        if row // layout.BLOCK != 1
    )
    assert len(original) == layout.BLOCK
    assert contents(copy(store, "test", "other")) == contents(original)
    original.delete(contents(original))
    assert contents(copy(store, "test", "none")) == []


def test_a_copy_that_is_killed_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any third command; what changes in between is as it is in the end. Or it is dropped."""
    monkeypatch.setattr(blocks, "_BLOCKS", 1)
    for survived in range(0, 1000, 3):
        empty(store)
        collection = full(store)
        try:
            with monkeypatch.context() as patch:
                dying(patch, survived)
                copy(store, "test", "copy")
        except Killed:
            begun = Names.read(store).copies("copy")
            if begun and survived % 2:
                dropping.drop(store, "copy")
                dropping.drop(store, "test")
                assert keys(store, "*") == []
                continue
            if "copy" not in catalogue.names(store):
                collection.delete([ref(i).uri for i in range(0, 300, 9)])
                collection.add(-vectors(13)[12:], [ref(12, version=9)])
                collection.add(vectors(301)[300:], [ref(300)])
                amend(collection, [ref(13).uri], Amendment("new"))
                copy(store, "test", "copy")
            made_copy = Collection.open(store, "copy")
            assert contents(made_copy) == contents(collection)
            for uri in (ref(12).uri, ref(13).uri):
                one, other = collection.get(uri), made_copy.get(uri)
                assert one is not None
                assert other is not None
                assert one.label == other.label
                assert np.array_equal(one.vector, other.vector)
            dropping.drop(store, "copy")
            dropping.drop(store, "test")
            assert keys(store, "*") == []
        else:
            assert survived > 20
            return
    raise AssertionError("it never ends")


def test_tables_are_to_be_rebuilt_of_a_collection_that_is_gone_or_emptied_meanwhile(
    valkey_url: str,
) -> None:
    wish = growth.Wish("kmeans", None, None)
    with closing(connect(valkey_url)) as store:
        empty(store)
        made(store, "test", count=30)
        collection = Collection.open(store, "test")
        [partition] = collection.partitions
        partition.families.now()
        collection.delete(contents(collection))
        with pytest.raises(UsageError, match="'test' has no images"):
            growth.start(partition, wish, 0)
        dropping.drop(store, "test")
        with pytest.raises(CollectionError, match="'test' is gone"):
            growth.start(partition, wish, 0)


@pytest.mark.slow
def test_a_collection_is_dropped_while_it_is_used(valkey_url: str) -> None:
    with closing(connect(valkey_url)) as store:
        empty(store)
        made(store, "test", count=600)
        told: list[str] = []

        def write() -> None:
            with closing(connect(valkey_url)) as mine:
                collection, number = Collection.open(mine, "test"), 1000
                while True:
                    try:
                        some = [ref(i) for i in range(number, number + 50)]
                        collection.add(vectors(50, seed=number), some)
                    except (CollectionError, StoreError) as error:
                        told.append(str(error))
                        return
                    number += 50

        def ask() -> None:
            with closing(connect(valkey_url)) as mine:
                searcher = Searcher(Collection.open(mine, "test"), max_staleness=0)
                while True:
                    try:
                        best(searcher, 5)
                    except (CollectionError, StoreError) as error:
                        told.append(str(error))
                        return

        threads = [threading.Thread(target=work) for work in (write, write, ask, ask)]
        for thread in threads:
            thread.start()
        threading.Event().wait(0.5)
        dropping.drop(store, "test")
        for thread in threads:
            thread.join()
        assert keys(store, "*") == []
    assert len(told) == 4
    assert all("is gone" in text or "there is no collection" in text for text in told), told


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.sampled_from(NAMES), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.integers(0, 9)),
        st.tuples(
            st.sampled_from(["rename", "alias", "copy"]),
            st.sampled_from(NAMES),
            st.sampled_from(NAMES),
        ),
        st.tuples(st.sampled_from(["drop", "remove"]), st.sampled_from(NAMES), st.none()),
    ),
    max_size=14,
)


@pytest.mark.slow
def test_the_commands(cli: CommandLine, valkey_url: str) -> None:
    with closing(connect(valkey_url)) as store:
        assert cli.run("collections", "list").out.startswith("No collections yet.")
        made(store, "one", count=3)
        assert cli.run("collections", "rename", "one", "two").out == "one is called two now\n"
        assert cli.run("collections", "alias", "live", "two").out == "live leads to two\n"
        [listed] = json.loads(cli.run("collections", "list", "--json").out)
        assert listed == {"name": "two", "images": 3, "model": "m-1", "aliases": ["live"]}
        assert "live" in cli.run("collections", "list").out
        assert "the alias 'live' leads to 'two'" in cli.fail("collections", "drop", "two", "--yes")
        assert "give --remove" in cli.fail("collections", "alias", "live", code=2)
        assert cli.run("collections", "alias", "live", "--remove").code == 0
        assert "add --yes" in cli.fail("collections", "drop", "two", code=2)
        result = cli.run("collections", "drop", "two", "--yes")
        assert (result.code, result.out) == (0, "two is dropped\n")
        assert "there is no collection 'two'" in cli.fail("collections", "drop", "two", "--yes")
        assert keys(store, "*") == []


class Model:
    """What names and collections ought to be, in dictionaries."""

    def __init__(self) -> None:
        self.numbers: dict[str, set[int]] = {}
        self.aliases: dict[str, str] = {}

    def allows(self, kind: str, name: str, other: Any) -> bool:
        """Whether a change is possible."""
        taken = self.numbers.keys() | self.aliases.keys()
        return {
            "make": True,
            "delete": name in taken,
            "rename": name in self.numbers and (other not in taken or other == name),
            "copy": name in taken and other not in taken,
            "alias": other in taken and name not in self.numbers,
            "drop": name in self.numbers and name not in self.aliases.values(),
            "remove": name in self.aliases,
        }[kind]

    def change(self, kind: str, name: str, other: Any) -> None:
        """Do what is possible."""
        real = self.aliases.get(name, name)
        if kind == "make":
            self.numbers.setdefault(real, set()).add(other)
        elif kind == "delete":
            self.numbers[real].discard(other)
        elif kind == "copy":
            self.numbers[other] = set(self.numbers[real])
        elif kind == "rename":
            self.numbers[other] = self.numbers.pop(name)
            self.aliases = {a: other if to == name else to for a, to in self.aliases.items()}
        elif kind == "alias":
            self.aliases[name] = self.aliases.get(other, other)
        else:
            (self.numbers if kind == "drop" else self.aliases).pop(name)


def change(store: Store, kind: str, name: str, other: Any) -> None:
    """The same in a store."""
    if kind == "make":
        create(store, name).add(vectors(other + 1)[other:], [ref(other)])
    elif kind == "delete":
        Collection.open(store, name).delete([ref(other).uri])
    elif kind == "rename":
        rename(store, name, other)
    elif kind == "copy":
        copy(store, name, other)
    elif kind == "alias":
        set_alias(store, name, other)
    elif kind == "drop":
        dropping.drop(store, name)
    else:
        remove_alias(store, name)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
@on_every_server
def test_any_changes_equal_those_of_dictionaries(store: Store, changes: list[Any]) -> None:
    empty(store)
    model = Model()
    for one in changes:
        if model.allows(*one):
            change(store, *one)
            model.change(*one)
        else:
            with pytest.raises(CollectionError):
                change(store, *one)
    names = Names.read(store)
    assert list(names.collections) == sorted(model.numbers)
    assert names.aliases == dict(sorted(model.aliases.items()))
    leads = {name: name for name in model.numbers} | model.aliases
    for name, to in leads.items():
        found = contents(Collection.open(store, name))
        assert found == sorted(ref(number).uri for number in model.numbers[to])
    for alias in model.aliases:
        remove_alias(store, alias)
    for name in model.numbers:
        dropping.drop(store, name)
    assert keys(store, "*") == []
