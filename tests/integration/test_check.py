"""`simdist check`: it finds every kind of damage, and repairs what can be repaired."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simdist import LSHash
from simdist.errors import CollectionError, SimdistError, StoreError
from simdist.index import growth
from simdist.index.check import check
from simdist.index.collection import Collection
from simdist.index.rehash import rehash
from simdist.index.repair import Repaired, repair
from simdist.index.tuning import stored_tunings
from simdist.ingest.failures import Failure, keep, kept
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, layout
from simdist.store.connection import Argument
from tests.collections import DIM, create, family_key, ref, vectors
from tests.command_line import CommandLine
from tests.conftest import LONG
from tests.index_contents import contents
from tests.servers import keys as all_keys
from tests.servers import on_every_server, unrestricted

# Some seventy kinds of damage, of which each takes a third of a second.
pytestmark = pytest.mark.slow

COUNT = 300


@pytest.fixture
def valkey_store(valkey_url: str) -> Iterator[Store]:
    """An empty store on the embedded server."""
    store = connect(valkey_url)
    store.call("FLUSHALL")
    yield store
    store.close()


# Some images are gone, some were replaced.
DELETED, REPLACED = range(20, 110), range(200, 210)
Damaging = Callable[[Store, Collection], object]


def made(store: Store, *, partitions: int = 1) -> Collection:
    """A collection some of whose images are dead."""
    collection = create(store, partitions=partitions)
    collection.add(vectors(COUNT), [ref(i) for i in range(COUNT)])
    collection.delete(ref(i).uri for i in DELETED)
    replaced = [ref(i, version=1) for i in REPLACED]
    collection.add(vectors(COUNT)[REPLACED.start : REPLACED.stop], replaced)
    return collection


def images() -> list[int]:
    return [i for i in range(COUNT) if i not in DELETED]


def add_again(collection: Collection) -> None:
    """The same images once more, as an ingest does: what is there stays."""
    refs = [ref(i, version=int(i in REPLACED)) for i in images()]
    collection.add(vectors(COUNT)[images()], refs)


def found(collection: Collection) -> list[str]:
    """The keys that are damaged."""
    return [damage.key for checkup in check(collection) for damage in checkup.damages]


def repaired(collection: Collection) -> Repaired:
    return repair(collection, check(collection))


def assert_whole(collection: Collection) -> None:
    """All images are there, once, and are found."""
    assert contents(collection) == sorted(ref(i).uri for i in images())
    searcher = Searcher(collection)
    for i in images():
        assert searcher.search(vectors(COUNT)[i], n=1)[0].uri == ref(i).uri


def image_at(collection: Collection, row: int) -> str:
    """The URI of the first image from a row on."""
    [block] = collection.partitions[0].images(row, row + 20)
    return block.records[0].uri


def searches(collection: Collection) -> None:
    searcher = Searcher(collection)
    for i in range(0, COUNT, 7):
        searcher.search(vectors(COUNT)[i], n=5)


def looks(collection: Collection) -> None:
    for i in range(0, COUNT, 7):
        collection.get(ref(i).uri)
    collection.count()
    stored_tunings(collection.partitions)


# All that people do with a collection.
USES: list[Callable[[Collection], object]] = [
    searches,
    looks,
    lambda made: list(made.images()),
    lambda made: made.known([ref(i) for i in range(COUNT)]),
    lambda made: made.delete(ref(i).uri for i in range(110, 140)),
    lambda made: made.delete([ref(290).uri]),
    lambda made: made.add(vectors(1, seed=5), [ref(1000)]),
    lambda made: made.add(vectors(2, seed=6), [ref(0, version=2), ref(295, version=2)]),
]


def use(store: Store) -> None:
    """Do all of it: each is an error of ours that has changed nothing, or is done."""
    for do in USES:
        before = everything(store)
        try:
            do(Collection.open(store, "test"))
        except (StoreError, CollectionError):
            assert everything(store) == before


def everything(store: Store) -> dict[bytes, bytes]:
    names = all_keys(store, "*")
    dumps = unrestricted(store).call_many([("DUMP", name) for name in names])
    return dict(zip(names, dumps, strict=True))


def meta(name: str, value: str) -> Damaging:
    return lambda store, made: store.call("HSET", made.partitions[0].keys.meta, name, value)


def on(key: Callable[[layout.Keys], str], *command: Argument) -> Damaging:
    """A command on one of the keys."""
    return lambda store, made: store.call(command[0], key(made.partitions[0].keys), *command[1:])


def cut(key: Callable[[layout.Keys], str], *, by: int) -> Damaging:
    def damage(store: Store, made: Collection) -> None:
        name = key(made.partitions[0].keys)
        store.call("SET", name, store.call("GET", name)[:-by])

    return damage


def entries(change: Callable[[bytes], bytes]) -> Damaging:
    """Change three entries of the hash of URIs in which the first image is."""

    def damage(store: Store, made: Collection) -> None:
        hashes = all_keys(store, made.partitions[0].keys.pattern("uris"))
        [key] = [
            key for key in hashes if store.call("HEXISTS", key, layout.uri_digest(ref(0).uri)[3:])
        ]
        there = sorted(store.call("HGETALL", key).items())[:3]
        for field, entry in [(layout.uri_digest(ref(0).uri)[3:], bytes(12)), *there]:
            store.call("HSET", key, field, change(entry))

    return damage


def lose_bucket_of_next(store: Store, made: Collection) -> None:
    """A bucket of tables that are half filled."""
    [partition] = made.partitions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "FILL_BATCH", layout.BLOCK)
        growth.start(partition, growth.Wish("kmeans", None, None), 0)
        next(growth.fill(partition))
    following = partition.state().following
    [key, *_] = sorted(all_keys(store, partition.keys.pattern(f"bucket:{following}")))
    store.call("DEL", key)


def first_bucket(change: Callable[[bytes], bytes]) -> Damaging:
    def damage(store: Store, made: Collection) -> None:
        keys = sorted(all_keys(store, made.partitions[0].keys.pattern("bucket")))
        dead = set(np.frombuffer(store.call("GET", made.partitions[0].keys.dead), "<u4").tolist())
        # One that matters.
        key = next(
            key for key in keys if set(np.frombuffer(store.call("GET", key), "<u4").tolist()) - dead
        )
        value = change(store.call("GET", key))
        store.call("SET", key, value) if value else store.call("DEL", key)

    return damage


def lose_entries(store: Store, made: Collection) -> None:
    [key, *_] = all_keys(store, made.partitions[0].keys.pattern("uris"))
    store.call("DEL", key)


def lose_family(store: Store, made: Collection) -> None:
    store.call("DEL", family_key(made))


def overwrite_family(store: Store, made: Collection) -> None:
    store.call("SETRANGE", family_key(made), 300, b"\xff" * 40)


DAMAGE: dict[str, Damaging] = {
    "a family is lost": lose_family,
    "a family is overwritten": overwrite_family,
    "vectors are cut within one": cut(lambda keys: keys.vectors(2), by=5),
    "vectors are cut to whole ones": cut(lambda keys: keys.vectors(2), by=60),
    "vectors are lost": on(lambda keys: keys.vectors(2), "DEL"),
    "vectors are overwritten": on(lambda keys: keys.vectors(2), "SETRANGE", 100, b"\x55" * 50),
    "vectors are zeros": on(lambda keys: keys.vectors(3), "SETRANGE", 0, bytes(100)),
    "records are lost": on(lambda keys: keys.records(3), "DEL"),
    "the last records are lost": on(lambda keys: keys.records(4), "DEL"),
    "records are cut": cut(lambda keys: keys.records(3), by=9),
    "records are cut within the lengths": on(lambda keys: keys.records(3), "SET", b"short"),
    "records are no text": on(lambda keys: keys.records(3), "SETRANGE", 250, b"\xff" * 9),
    "a length is another": on(lambda keys: keys.records(2), "SETRANGE", 0, b"\x05"),
    "a length is huge": on(lambda keys: keys.records(2), "SETRANGE", 0, b"\xff\xff\xff\x7f"),
    "a row is marked as dead": on(lambda keys: keys.records(3), "SETRANGE", 3, b"\x80"),
    "dead rows are cut": cut(lambda keys: keys.dead, by=2),
    "dead rows are lost": on(lambda keys: keys.dead, "DEL"),
    "a dead row is none": on(lambda keys: keys.dead, "APPEND", b"\xff" * 4),
    "a dead row is alive": on(lambda keys: keys.dead, "APPEND", bytes(4)),
    "entries are cut": entries(lambda entry: entry[:3]),
    "entries lead to no row": entries(lambda entry: b"\xff" * 4 + entry[4:]),
    "entries lead to another row": entries(lambda entry: (150).to_bytes(4, "little") + entry[4:]),
    "entries lead to a dead row": entries(lambda entry: (30).to_bytes(4, "little") + entry[4:]),
    "entries are lost": lose_entries,
    "a bucket is cut within a row": first_bucket(lambda rows: rows[:-1]),
    "a bucket is lost": first_bucket(lambda _: b""),
    "a bucket has rows twice": first_bucket(lambda rows: rows + rows),
    "a bucket has rows that there are not": first_bucket(lambda rows: rows + b"\xff" * 4),
    **{
        f"{name} is {value!r}": meta(name, value)
        for name in ("rows", "live", "epoch", "generation", "next")
        for value in ("x", "", "-1", "9" * 30)
    },
    **{
        f"{name} is {value!r}": meta(name, value)
        for name in ("tuning", "asked")
        for value in ("x", "7", "[7]", '[{"points": [[1, 2, 3]]}]', "\\x00", '{"wish": 1e999}')
    },
    "rows is too low": meta("rows", "130"),
    "rows is too low within its block": meta("rows", "305"),
    "rows is too high": meta("rows", "700"),
    "live is another": meta("live", "7"),
    "a bucket of the next tables is lost": lose_bucket_of_next,
    "generation is another": meta("generation", "12345"),
    "generation is 0": meta("generation", "0"),
    "tuning is endless": meta("tuning", "[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_repaired(store: Store, damage: str) -> None:
    # It needs SCAN, which simdist's own user may not do.
    simdists, store = store, unrestricted(store)
    collection = made(store)
    assert found(collection) == []
    DAMAGE[damage](store, collection)
    assert found(collection)
    use(simdists)
    again = Collection.open(store, "test")
    assert repaired(again).left == []
    again = Collection.open(store, "test")
    assert found(again) == []
    again.delete([ref(1000).uri])
    add_again(again)
    assert_whole(again)
    assert found(again) == []


@pytest.mark.parametrize("field", ["filled", "fill", "fitted", "retired"])
def test_a_field_that_is_there_at_times_is_repaired(field: str, valkey_store: Store) -> None:
    collection = made(valkey_store)
    valkey_store.call("HSET", collection.partitions[0].keys.meta, field, "x")
    assert found(collection)
    assert repaired(collection) == Repaired(0, [])
    again = Collection.open(valkey_store, "test")
    add_again(again)
    assert_whole(again)


def test_a_repair_does_not_empty_a_collection(valkey_store: Store) -> None:
    """Where it says another dimension, or another number of hashes, nothing can be read by it."""
    for field, value in (("dim", 17), ("uri_bits", 3), ("dtype", "float32")):
        collection = made(valkey_store)
        valkey_store.call("HSET", collection.partitions[0].keys.meta, field, value)
        opened, before = Collection.open(valkey_store, "test"), everything(valkey_store)
        with pytest.raises(StoreError, match="would be left"):
            repaired(opened)
        assert everything(valkey_store) == before
        valkey_store.call("FLUSHALL")


def test_an_image_beside_damaged_ones_is_not_lost(valkey_store: Store) -> None:
    """A record that cannot be read is taken out alone; a block that is cut, as a whole."""
    collection = made(valkey_store)
    [partition] = collection.partitions
    valkey_store.call("SETRANGE", partition.keys.records(4), 4 * layout.BLOCK + 5, b"\xff")
    assert repaired(collection).lost == 1
    [block] = partition.images(3 * layout.BLOCK, 4 * layout.BLOCK)
    cut(lambda keys: keys.vectors(3), by=1)(valkey_store, collection)
    assert repaired(collection).lost == len(block.rows) < layout.BLOCK


def test_searchers_notice_a_repair(valkey_store: Store) -> None:
    collection = made(valkey_store)
    searcher = Searcher(collection, max_staleness=0)
    uri = image_at(collection, 130)
    [lost] = [vectors(COUNT)[i] for i in range(COUNT) if ref(i).uri == uri]
    assert searcher.search(lost, n=1)[0].uri == uri
    cut(lambda keys: keys.vectors(2), by=1)(valkey_store, collection)
    repaired(collection)
    assert searcher.search(lost, n=1)[0].uri != uri
    again = Collection.open(valkey_store, "test")
    add_again(again)
    assert searcher.search(lost, n=1)[0].uri == uri


@on_every_server
def test_all_partitions_are_checked(store: Store) -> None:
    store = unrestricted(store)
    collection = made(store, partitions=3)
    for partition in collection.partitions[1:]:
        store.call("DEL", partition.keys.records(0))
    store.call("DEL", collection.partitions[2].keys.meta)
    assert {key.split(":")[1] for key in found(collection)} == {"{test/1}", "{test/2}"}
    assert repaired(collection).left == []
    again = Collection.open(store, "test")
    add_again(again)
    assert_whole(again)


def test_hyperplanes_of_ones_own_stay(valkey_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMDIST_REDIS_URL", valkey_store.url)
    points = vectors(20)
    with LSHash(6, DIM, 3, name="mine") as lsh:
        for point in points:
            lsh.index(point)
    collection = Collection.open(valkey_store, "mine")
    [key, *_] = all_keys(valkey_store, collection.partitions[0].keys.pattern("bucket"))
    valkey_store.call("DEL", key)
    assert repaired(collection) == Repaired(0, [])
    with LSHash(6, DIM, 3, name="mine") as lsh:
        assert len(lsh.query(points[3], num_results=1)) == 1
    overwrite_family(valkey_store, collection)
    with pytest.raises(StoreError, match="the hyperplanes of 'mine' are lost"):
        repaired(collection)


@contextmanager
def written(collection: Collection) -> Iterator[None]:
    """Let somebody add, replace and delete images and rebuild tables all the time."""
    stop = threading.Event()
    store = connect(collection.store.url)
    mine = Collection.open(store, collection.name)

    def write() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            some = np.random.default_rng(version).choice(COUNT, 40, replace=False).tolist()
            mine.add(vectors(COUNT)[some], [ref(i, version) for i in some])
            mine.delete(ref(i).uri for i in some[:20])
            if version % 5 == 0:
                rehash(mine)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
        store.close()


def test_writes_meanwhile_do_not_pass_for_damage(valkey_store: Store) -> None:
    collection = made(valkey_store)
    with written(collection):
        for _ in range(60):
            assert found(collection) == []
    assert found(collection) == []


def test_a_repair_ends_where_somebody_writes(valkey_store: Store) -> None:
    collection = made(valkey_store)
    cut(lambda keys: keys.vectors(2), by=1)(valkey_store, collection)
    checkups = check(collection)
    collection.add(vectors(1, seed=9), [ref(1000)])
    before = everything(valkey_store)
    with pytest.raises(StoreError, match="somebody writes to the collection 'test'"):
        repair(collection, checkups)
    assert everything(valkey_store) == before


def test_the_command_names_damage_and_repairs_it(cli: CommandLine, valkey_store: Store) -> None:
    collection = made(valkey_store)
    assert cli.run("check", "-c", "test").out == "test: no damage found\n"
    cut(lambda keys: keys.vectors(2), by=1)(valkey_store, collection)
    result = cli.run("check", "-c", "test")
    assert result.code == 1
    assert "simdist:{test/0}:vectors:2: it is not there, or cut\n" in result.out
    assert "simdist check -c test --repair" in result.out
    shown = json.loads(cli.run("check", "-c", "test", "--json").out)
    assert shown["damages"][0]["key"] == "simdist:{test/0}:vectors:2"
    assert shown["repaired"] is None
    result = cli.run("check", "-c", "test", "--repair")
    assert result.code == 0
    assert re.search(r"Repaired; \d+ images were lost: run the same ingest again", result.out)
    assert cli.run("check", "-c", "test").code == 0
    add_again(Collection.open(valkey_store, "test"))
    assert_whole(Collection.open(valkey_store, "test"))


def test_an_error_about_damage_names_the_command(cli: CommandLine, valkey_store: Store) -> None:
    made(valkey_store)
    valkey_store.call("HSET", "simdist:{test/0}:meta", "live", "x")
    message = cli.fail("status")
    assert "simdist:{test/0}:meta is damaged (its live cannot be b'x')" in message
    assert "simdist check --collection test --repair" in message


@pytest.mark.parametrize(
    "value",
    ["x", "[]", '["decode", "no", "s", 1, {"size": {}, "no": 1}, []]', b"\xff", "[" * 99_999],
)
def test_failures_that_cannot_be_read_are_forgotten(
    cli: CommandLine, valkey_store: Store, value: str | bytes
) -> None:
    collection = made(valkey_store)
    keep(collection, [Failure.of("file:///a.jpg", "decode", "no image")], source="folder")
    key = collection.partitions[0].keys.failures
    valkey_store.call("HSET", key, b"\xff", value)
    assert f"{key} is damaged" in cli.fail("failures", "-c", "test")
    result = cli.run("check", "-c", "test")
    assert result.code == 1
    assert f"{key}: 1 of the failures cannot be read\n" in result.out
    assert cli.run("check", "-c", "test", "--repair").code == 0
    assert [one.failure.uri for one in kept(collection)] == ["file:///a.jpg"]


# What says how a collection is to be read: nothing tells that it is another, or it is an error.
MADE_FOR = {b"model", b"model_id", b"dim", b"dtype", b"expect", b"partitions", b"uri_bits"}


def harm(store: Store, data: st.DataObject) -> None:
    """Overwrite, cut or remove something of a key."""
    key = data.draw(st.sampled_from(sorted(all_keys(store, "simdist:{*/*"))))
    if store.call("TYPE", key) == b"hash":
        names = sorted(set(store.call("HKEYS", key)) - MADE_FOR - {b"version"})
        name = data.draw(st.sampled_from(names))
        value = changed(store.call("HGET", key, name), data)
        store.call("HSET", key, name, value) if value is not None else store.call("HDEL", key, name)
        return
    value = changed(store.call("GET", key), data)
    store.call("SET", key, value) if value else store.call("DEL", key)


def changed(value: bytes, data: st.DataObject) -> bytes | None:
    start = data.draw(st.integers(0, max(len(value) - 1, 0)))
    kind = data.draw(st.sampled_from(["overwritten", "cut", "shifted", "removed"]))
    if kind == "removed":
        return None
    if kind == "cut":
        return value[:start]
    other = data.draw(st.binary(min_size=1, max_size=8))
    rest = value[start + len(other) :] if kind == "overwritten" else value[start:]
    return value[:start] + other + rest


@settings(max_examples=300 if LONG else 25)
@given(data=st.data())
def test_whatever_is_damaged_is_found_and_repaired(valkey_url: str, data: st.DataObject) -> None:
    store = connect(valkey_url)
    store.call("FLUSHALL")
    collection = made(store)
    for _ in range(data.draw(st.integers(1, 3))):
        harm(store, data)
    collection = Collection.open(store, "test")
    if not found(collection):
        assert contents(collection) == sorted(ref(i).uri for i in images())
    for do in USES:
        try:
            do(Collection.open(store, "test"))
        except SimdistError:
            continue
    try:
        assert repaired(collection).left == []
    except StoreError as error:
        # Three keys may be most of so small a collection.
        assert "would be left" in str(error)
        return
    again = Collection.open(store, "test")
    again.delete([ref(1000).uri])
    add_again(again)
    assert_whole(again)
    assert found(again) == []
    store.close()
