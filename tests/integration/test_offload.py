"""Vectors and records in files: the same answers, and nothing lost between the two homes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdist.errors import OutputError, SourceError, StoreError, UsageError
from simdist.index import moved as moved_blocks
from simdist.index import offloading
from simdist.index.check import check as look
from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.index.dropping import drop
from simdist.index.offloading import bring_back, offload, offloaded
from simdist.index.repair import repair
from simdist.search.question import Hit
from simdist.search.searcher import Searcher
from simdist.sources.output import OutputFolder
from simdist.store import Store, connect, layout, scripts
from tests.collections import Killed, create, ref, vectors
from tests.command_line import CommandLine
from tests.histories import Model, Step, check
from tests.index_contents import contents, stored_vectors
from tests.object_store import ObjectStore
from tests.servers import empty, keys, on_every_server, running, valkey

# Full blocks and some rows beside.
IMAGES = 20 * layout.BLOCK + 5
QUERIES = vectors(30, seed=1)


@pytest.fixture
def valkey_store(valkey_url: str) -> Iterator[Store]:
    """An empty store on the embedded server, of which all may be asked."""
    with closing(connect(valkey_url)) as store:
        empty(store)
        yield store


def made(store: Store, *, partitions: int = 1) -> Collection:
    """A collection of which some images were replaced and deleted."""
    collection = create(store, partitions=partitions)
    collection.add(vectors(IMAGES), [ref(i, label=f"label {i % 7}") for i in range(IMAGES)])
    collection.add(vectors(100, seed=2), [ref(i, 1) for i in range(50, 150)])
    collection.delete([ref(i).uri for i in range(200, 300, 2)])
    return collection


def answers(
    searcher: Searcher, *, n: int = 10, where: str | None = None
) -> Sequence[Sequence[Hit]]:
    return searcher.search_many(QUERIES, n=n, probes=1000, where=where)


@pytest.mark.parametrize(("bits", "partitions"), [(4, 1), (2, 2), (1, 1)])
def test_answers_are_the_same_to_the_bit(
    valkey_store: Store, tmp_path: Path, bits: int, partitions: int
) -> None:
    collection = made(valkey_store, partitions=partitions)
    before = Searcher(collection, max_staleness=0)
    wanted, more = answers(before), answers(before, n=200)
    passing = answers(before, where="label = 'label 3'")
    kept = stored_vectors(collection)

    moved = offload(collection, str(tmp_path), bits=bits)
    assert moved >= 17 * layout.BLOCK
    assert offloaded(collection) == (tmp_path.as_uri(), bits)
    # One that was reading before, and one that was not; and one that has room for hardly any.
    for searcher in (before, Searcher(collection)):
        for _ in range(2):
            assert answers(searcher) == wanted
        assert answers(searcher, n=200) == more
        assert answers(searcher, where="label = 'label 3'") == passing
    assert answers(Searcher(collection, cache_memory=1 << 12)) == wanted
    assert stored_vectors(collection) == kept
    assert [one.damages for one in look(collection)] == [[]] * partitions
    # What is there already is not moved again.
    assert offload(collection, str(tmp_path), bits=bits) == 0

    assert bring_back(collection) == moved
    assert offloaded(collection) is None
    assert answers(before) == wanted
    assert stored_vectors(collection) == kept
    assert not keys(valkey_store, collection.partitions[0].keys.pattern("moved"))


@pytest.mark.parametrize("back", [False, True])
def test_a_move_that_dies_at_any_write_is_finished_by_the_next(
    valkey_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    """The n-th file or call of the script is the last; nothing is lost, nor found twice."""
    collection = made(valkey_store)
    kept, wanted = stored_vectors(collection), answers(Searcher(collection))
    monkeypatch.setattr(offloading, "_IN_A_FILE", 6)
    monkeypatch.setattr(offloading, "_AT_ONCE", 2)
    if back:
        offload(collection, str(tmp_path), bits=4)

    def move() -> None:
        bring_back(collection) if back else offload(collection, str(tmp_path), bits=4)

    died = 0
    while dies(move, died, monkeypatch):
        died += 1
        assert stored_vectors(collection) == kept
        assert answers(Searcher(collection)) == wanted
    assert died > 4
    assert (offloaded(collection) is None) == back
    assert stored_vectors(collection) == kept


def dies(move: Callable[[], None], writes: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Move blocks in a process that dies after so many writes, if there are more."""
    done = 0

    def counted(send: Any) -> Any:
        def wrapper(self: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal done
            name = getattr(arguments[0], "name", arguments[0])
            if isinstance(self, OutputFolder) or name in {"move", "note"}:
                done += 1
                if done > writes:
                    raise Killed
            return send(self, *arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(Store, "run", counted(Store.run))
        patch.setattr(OutputFolder, "put", counted(OutputFolder.put))
        try:
            move()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("back", [False, True])
def test_what_is_deleted_while_its_block_is_moved_stays_deleted(
    valkey_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    collection = made(valkey_store)
    if back:
        offload(collection, str(tmp_path), bits=4)
    gone = [ref(i).uri for i in (0, 59, 60, 400)]
    # All of a block.
    gone += [ref(i).uri for i in range(512, 576)]
    move = scripts.move

    def after_a_deletion(*arguments: Any, **options: Any) -> Any:
        collection.delete(gone)
        return move(*arguments, **options)

    monkeypatch.setattr(scripts, "move", after_a_deletion)
    bring_back(collection) if back else offload(collection, str(tmp_path), bits=4)
    left = stored_vectors(collection)
    assert not set(gone) & set(left)
    assert sorted(left) == contents(collection)
    assert {hit.uri for hits in answers(Searcher(collection), n=1000) for hit in hits} <= set(left)
    assert [one.damages for one in look(collection)] == [[]]


def test_long_records(valkey_store: Store, tmp_path: Path) -> None:
    """Lengths that do not fit into 16 bits, and one that just does."""
    collection = create(valkey_store)
    lengths = {0: 40_000, 5: 65_000, 61: 32_000}
    refs = [replace(ref(i), look=bytes(lengths.get(i, 9))) for i in range(3 * layout.BLOCK)]
    collection.add(vectors(len(refs)), refs)
    kept = stored_vectors(collection)
    offload(collection, str(tmp_path), bits=4)
    [partition] = collection.partitions
    sizes = {len(valkey_store.call("GET", partition.keys.moved(i)) or b"") for i in range(3)}
    assert max(sizes) - min(sizes) == 2 * layout.BLOCK
    gone = [ref(i) for i in (1, 5, 60, 61, 179)]
    collection.delete([one.uri for one in gone])
    for one in gone:
        del kept[one.uri]
    assert stored_vectors(collection) == kept
    assert [one.damages for one in look(collection)] == [[]]
    bring_back(collection)
    assert stored_vectors(collection) == kept
    assert [one.damages for one in look(collection)] == [[]]


def test_buckets_that_grew_take_no_more_than_they_need(valkey_store: Store, tmp_path: Path) -> None:
    collection = create(valkey_store)
    for start in range(0, 1800, 100):
        some = range(start, start + 100)
        collection.add(vectors(1800)[start : start + 100], [ref(i) for i in some])
    [partition] = collection.partitions
    of_buckets = keys(valkey_store, partition.keys.pattern("bucket"))

    def used() -> int:
        return sum(valkey_store.call_many([("MEMORY", "USAGE", key) for key in of_buckets]))

    before, rows = used(), valkey_store.call_many([("GET", key) for key in of_buckets])
    offload(collection, str(tmp_path), bits=4)
    after = used()
    assert valkey_store.call_many([("GET", key) for key in of_buckets]) == rows
    for key, value in zip(of_buckets, rows, strict=True):
        valkey_store.call("SET", key, value)
    # But for some, which a script writes in another form than a client.
    assert before - after > 0.9 * (before - used()) > 0


def test_of_two_who_move_the_opposite_ways_the_later_one_wins(
    valkey_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = made(valkey_store)
    kept = stored_vectors(collection)
    move = scripts.move

    def overtaken(by: Callable[[], object]) -> Callable[..., Any]:
        def moved(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(scripts, "move", move)
            by()
            return move(*arguments, **options)

        return moved

    [partition] = collection.partitions
    begun = overtaken(lambda: partition.note("HSET", "meta", "returning", "another"))
    monkeypatch.setattr(scripts, "move", begun)
    with pytest.raises(UsageError, match="the other way"):
        offload(collection, str(tmp_path), bits=4)
    offload(collection, str(tmp_path), bits=4)
    monkeypatch.setattr(
        scripts, "move", overtaken(lambda: offload(collection, str(tmp_path), bits=4))
    )
    with pytest.raises(UsageError, match="the other way"):
        bring_back(collection)
    assert offloaded(collection)
    assert stored_vectors(collection) == kept
    bring_back(collection)
    assert stored_vectors(collection) == kept


MOVES = st.sampled_from([Step("rehash"), Step("offload"), Step("back")])
SOME = st.builds(range, st.integers(0, 100), st.integers(101, 260))


@on_every_server
def test_each_server_takes_it(store: Store, tmp_path: Path) -> None:
    collection = made(store, partitions=3)
    wanted, kept = answers(Searcher(collection)), stored_vectors(collection)
    offload(collection, str(tmp_path), bits=2)
    assert answers(Searcher(collection)) == wanted
    assert stored_vectors(collection) == kept
    drop(store, "test")
    assert not keys(store, "simdist:{test*")
    assert not list(tmp_path.rglob("*.vectors"))


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            MOVES,
            st.builds(Step, st.just("add"), SOME, st.integers(0, 2)),
            st.builds(Step, st.just("delete"), SOME),
        ),
        max_size=8,
    )
)
def test_any_history_equals_a_dictionary(valkey_store: Store, steps: list[Step]) -> None:
    valkey_store.call("FLUSHALL")
    collection = create(valkey_store)
    searcher = Searcher(collection, max_staleness=0)
    model: Model = {}
    for step in [Step("add", range(150)), *steps]:
        step.do(collection)
        model = step.after(model)
        check(collection, model, searcher)


def test_a_collection_moves_from_one_folder_to_another(valkey_store: Store, tmp_path: Path) -> None:
    collection = made(valkey_store)
    searcher = Searcher(collection, max_staleness=0)
    wanted, kept = answers(searcher), stored_vectors(collection)
    for folder in ("one", "two"):
        offload(collection, str(tmp_path / folder), bits=4)
        # Who knows the old one finds the new one.
        assert answers(searcher) == wanted
        assert stored_vectors(collection) == kept
        bring_back(collection)
        for file in tmp_path.rglob("*.vectors"):
            file.unlink()


def test_files_in_a_bucket(
    valkey_store: Store, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many that they are asked for in turns.
    monkeypatch.setattr(offloading, "_IN_A_FILE", 2)
    monkeypatch.setattr(moved_blocks, "_AT_ONCE", 4)
    collection = made(valkey_store)
    wanted, kept = answers(Searcher(collection)), stored_vectors(collection)
    offload(collection, f"{s3.uri}/cold", bits=4)
    assert answers(Searcher(collection)) == wanted
    assert stored_vectors(collection) == kept
    mark = collection.partitions[0].history.born.decode()
    place = OutputFolder.of(f"{s3.uri}/cold/{collection.home_name}-{mark}/0", s3.access)
    assert len(place.names()) > 8
    other = copy(valkey_store, "test", "copied")
    drop(valkey_store, "test")
    assert not place.names()
    # A copy has all of its own in Redis.
    assert answers(Searcher(other)) == wanted


def test_a_drop_removes_the_files_of_this_collection_only(
    valkey_store: Store, tmp_path: Path
) -> None:
    """Not those of another server's, which is called the same, nor what others have put there."""
    folder = str(tmp_path / "files")
    with (
        running(valkey(), tmp_path / "server") as server,
        closing(connect(server.url)) as other_store,
    ):
        collection, other = made(valkey_store), made(other_store)
        offload(collection, folder, bits=4)
        mine = list((tmp_path / "files").rglob("*.vectors"))
        notes = mine[0].with_name("notes.txt")
        notes.write_text("not simdist's")
        offload(other, folder, bits=4)
        wanted = answers(Searcher(other))
        drop(valkey_store, "test")
        assert not any(file.exists() for file in mine)
        assert notes.exists()
        assert answers(Searcher(other)) == wanted
        # Made anew under its name, it has no part in what was.
        again = made(valkey_store)
        offload(again, folder, bits=4)
        assert answers(Searcher(again)) == wanted


def test_files_that_are_not_there_or_cut_say_so(valkey_store: Store, tmp_path: Path) -> None:
    collection = made(valkey_store)
    offload(collection, str(tmp_path), bits=4)
    [file] = tmp_path.glob("*/0/*.vectors")
    whole = file.read_bytes()
    attempts: list[Callable[[], object]] = [
        lambda: answers(Searcher(collection)),
        lambda: look(collection),
        lambda: bring_back(collection),
    ]
    file.unlink()
    for attempt in attempts:
        with pytest.raises(SourceError, match="every worker needs that folder"):
            attempt()
    file.write_bytes(whole[: len(whole) // 2])
    for attempt in attempts:
        with pytest.raises(SourceError, match="is cut"):
            attempt()
    # Whatever Redis says: no other file is read.
    file.write_bytes(b"root:x:0:0" + whole[10:])
    for attempt in attempts:
        with pytest.raises(SourceError, match="holds no vectors"):
            attempt()
    file.write_bytes(whole)
    assert bring_back(collection) > 0


def test_damaged_codes_are_found_and_mended_by_bringing_them_back(
    valkey_store: Store, tmp_path: Path
) -> None:
    collection = made(valkey_store)
    kept = stored_vectors(collection)
    offload(collection, str(tmp_path), bits=4)
    key = collection.partitions[0].keys.vectors(3)
    valkey_store.call("SETRANGE", key, 100, b"damage")
    [found] = look(collection)
    assert [damage.key for damage in found.damages] == [key]
    with pytest.raises(UsageError, match="bring them back first"):
        repair(collection, [found])
    bring_back(collection)
    assert [one.damages for one in look(collection)] == [[]]
    assert stored_vectors(collection) == kept


def test_a_place_that_is_damaged_is_named(valkey_store: Store, tmp_path: Path) -> None:
    collection = made(valkey_store)
    offload(collection, str(tmp_path), bits=4)
    key = collection.partitions[0].keys.moved(3)
    valkey_store.call("SET", key, b"nowhere")
    with pytest.raises(StoreError, match="moved:3 is damaged"):
        stored_vectors(collection)
    [found] = look(collection)
    assert found.damages


def test_what_cannot_be_offloaded_is_refused(valkey_store: Store, tmp_path: Path) -> None:
    collection = made(valkey_store)
    with pytest.raises(UsageError, match="4, 2, 1 bits can stay, not 3"):
        offload(collection, str(tmp_path), bits=3)
    with pytest.raises(OutputError):
        offload(collection, "/proc/nothing", bits=4)
    short = Collection.create(valkey_store, "short", model="m", model_id="m", dim=32)
    floats = Collection.create(
        valkey_store, "floats", model="m", model_id="m", dim=64, dtype="float32"
    )
    for one in (short, floats):
        with pytest.raises(UsageError, match="more than 32 dimensions"):
            offload(one, str(tmp_path), bits=4)
    offload(collection, str(tmp_path / "here"), bits=4)
    for folder, bits in (("there", 4), ("here", 2)):
        with pytest.raises(UsageError, match="bring it back first"):
            offload(collection, str(tmp_path / folder), bits=bits)


def test_the_command(photos: Collection, cli: CommandLine, tmp_path: Path) -> None:
    done = cli.run("offload", str(tmp_path), "--collection", "photos", "--bits", "2")
    assert done.code == 0, done
    assert f"are now in {tmp_path}; Redis holds" in " ".join(done.out.split())
    said = f"photos: 2 bits of each value in memory, the vectors in {tmp_path.as_uri()}"
    assert said in " ".join(cli.run("status").out.split())
    [item] = json.loads(cli.run("status", "--json").out)
    assert (item["moved_to"], item["bits"]) == (tmp_path.as_uri(), 2)
    done = cli.run("offload", "--back", "--collection", "photos")
    assert "are back in Redis" in done.out
    assert "bits of each" not in cli.run("status").out
    assert "name the folder" in cli.fail("offload", "--collection", "photos", code=2)
