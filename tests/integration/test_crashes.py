"""Connections cut, and servers killed, at any command: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simdist.errors import StoreError
from simdist.index import growth as rehash
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.store import Store, connect, layout
from tests.collections import create, ref
from tests.histories import Model, Step, check, forget_leases, rebuild
from tests.index_contents import contents
from tests.proxy import CuttingProxy, Moment
from tests.servers import eventually, redis7, running, valkey

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(valkey_tcp: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    """A proxy before an empty server, and a client that does not wait before it tries again."""
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)
    with closing(connect(f"redis://127.0.0.1:{valkey_tcp}")) as store:
        store.call("FLUSHALL")
    with closing(CuttingProxy(valkey_tcp)) as opened:
        yield opened


@pytest.fixture
def direct(proxy: CuttingProxy, valkey_tcp: int) -> Iterator[Store]:
    """The server behind the proxy."""
    with closing(connect(f"redis://127.0.0.1:{valkey_tcp}")) as store:
        yield store


WORK = [
    Step("add", range(24)),
    Step("add", range(16, 32), state=1),
    Step("delete", range(4, 20)),
    # Grows out of its tables.
    Step("add", range(32, 60)),
    Step("add", range(32, 60)),
    Step("rehash"),
    Step("delete", range(50, 70)),
    Step("offload"),
    Step("add", range(8), state=2),
    Step("delete", range(4)),
    Step("rehash"),
    Step("back"),
]


@pytest.mark.parametrize("moment", Moment)
def test_a_connection_cut_at_any_command(
    proxy: CuttingProxy, direct: Store, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    monkeypatch.setattr(rehash, "GROWTH", 2)
    monkeypatch.setattr(rehash, "DEAD_ROWS", 8)
    monkeypatch.setattr(rehash, "FILL_BATCH", 32)
    at, reached = 0, True
    while reached:
        direct.call("FLUSHALL")
        # Cut once, the client tries again by itself; for good, there is an error, and the user
        # does. Of the four moments, each command has two of either kind.
        for_good = (at + list(Moment).index(moment)) % 2 == 0
        reached = work_with_a_cut(proxy, direct, at, moment, for_good=for_good)
        at += 1
    assert at > 40


def work_with_a_cut(
    proxy: CuttingProxy, direct: Store, at: int, moment: Moment, *, for_good: bool
) -> bool:
    """Do all the work; returns whether there was a command to cut the connection at."""
    model: Model = {}
    seen = create(direct)
    was_cut = False
    with closing(connect(proxy.url)) as store:
        collection = Collection.open(store, "test")
        proxy.cut_at(at, moment, refuse=for_good)
        for step in WORK:
            try:
                step.do(collection)
            except StoreError as error:
                assert for_good
                assert "cannot reach Redis" in str(error)
                was_cut = proxy.mend()
                forget_leases(seen)
                step.do(collection)
            else:
                assert not proxy.has_cut or not for_good
            model = step.after(model)
            if was_cut or proxy.has_cut:
                was_cut = proxy.mend() or was_cut
                assert contents(seen) == sorted(ref(image).uri for image in model)
    forget_leases(seen)
    rebuild(seen)
    check(seen, model)
    return was_cut


IMAGES = st.lists(st.integers(0, 40), min_size=1, max_size=20)
STEPS = st.one_of(
    st.builds(Step, st.just("add"), IMAGES, st.integers(0, 3)),
    st.builds(Step, st.just("delete"), IMAGES),
    st.sampled_from([Step("rehash"), Step("offload"), Step("back")]),
)
CRASHES = st.none() | st.tuples(st.integers(0, 15), st.sampled_from(Moment), st.booleans())


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    history=st.lists(st.tuples(STEPS, CRASHES), max_size=10),
    partitions=st.sampled_from([1, 2]),
)
def test_any_history_with_crashes_equals_a_dictionary(
    proxy: CuttingProxy,
    direct: Store,
    history: list[tuple[Step, tuple[int, Moment, bool] | None]],
    partitions: int,
) -> None:
    """A process dies at a command; another one does the same again, or something else."""
    proxy.mend()
    direct.call("FLUSHALL")
    model: Model = {}
    seen = create(direct, partitions=partitions)
    searcher = Searcher(seen, max_staleness=0)
    for step, crash in history:
        if crash is None:
            step.do(seen)
        elif dies(proxy, step, crash):
            forget_leases(seen)
            if crash[2]:
                step.do(seen)
            else:
                model = as_it_is_left(seen, step, model)
                check(seen, model, searcher)
                continue
        model = step.after(model)
        check(seen, model, searcher)


def dies(proxy: CuttingProxy, step: Step, crash: tuple[int, Moment, bool]) -> bool:
    """Do a step in a process that dies at some command, if it comes so far."""
    with closing(connect(proxy.url)) as store:
        collection = Collection.open(store, "test")
        proxy.cut_at(crash[0], crash[1], refuse=True)
        try:
            step.do(collection)
        except StoreError:
            assert proxy.mend()
            return True
    proxy.mend()
    return False


def as_it_is_left(collection: Collection, step: Step, model: Model) -> Model:
    """What an interrupted step has left: in each partition all of it, or nothing."""
    left: Model = {}
    count = len(collection.partitions)
    for number, partition in enumerate(collection.partitions):
        possible = [
            {
                image: state
                for image, state in whole.items()
                if layout.partition_of(layout.uri_digest(ref(image).uri), count) == number
            }
            for whole in (model, step.after(model))
        ]
        live = partition.state().live
        left |= next(
            part
            for part in possible
            if len(part) == live and collection.known([ref(*item) for item in part.items()]).all()
        )
    return left


@dataclass
class Writer:
    """A process that writes images of its own, and remembers what was acknowledged."""

    number: int
    model: Model = field(default_factory=dict)
    done: int = 0

    def step(self) -> Step:
        """What it does next: it goes over its images again and again."""
        first = 1000 * self.number + 37 * self.done % 300
        kind = "delete" if self.done % 5 == 4 else "add"
        return Step(kind, range(first, first + 40), state=self.done)

    def write(self, url: str) -> None:
        """Write until the server is gone."""
        with suppress(StoreError), closing(connect(url)) as store:
            collection = Collection.open(store, "test")
            while True:
                self.step().do(collection)
                self.acknowledged()

    def acknowledged(self) -> None:
        """Its step is done."""
        self.model = self.step().after(self.model)
        self.done += 1

    def wait_until(self, done: int) -> None:
        """Wait until so many steps are acknowledged."""
        eventually(lambda: self.done >= done)

    def look(self, collection: Collection) -> None:
        """See whether the step that was not acknowledged is done: it is as a whole, or not."""
        step = self.step()
        added = step.kind == "add"
        before = {i: state for i, state in self.model.items() if i in step.images}
        concerned = dict.fromkeys(step.images, step.state) if added else before
        there = collection.known([ref(*item) for item in concerned.items()])
        assert there.all() or not there.any()
        if there.all() == added:
            self.acknowledged()


@pytest.mark.parametrize("binary", [valkey, redis7])
def test_a_server_that_is_killed_while_two_write(
    binary: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its append-only file has all that was acknowledged.

    By fsync before each answer: every second, a disk that others keep busy makes servers answer up
    to two seconds before they write (docs/reliability.md).
    """
    monkeypatch.setattr("redis.retry.sleep", lambda _: None)
    monkeypatch.setattr(rehash, "GROWTH", 1)
    monkeypatch.setattr(rehash, "FILL_BATCH", 64)
    writers = [Writer(0), Writer(1)]
    dice = random.Random(7)
    with running(binary(), tmp_path / "data", "--appendfsync", "always") as server:
        with closing(connect(server.url)) as store:
            create(store)
        for _ in range(6):
            threads = [
                threading.Thread(target=writer.write, args=[server.url]) for writer in writers
            ]
            for thread in threads:
                thread.start()
            writers[0].wait_until(writers[0].done + dice.randrange(1, 12))
            # Anywhere within what it does next.
            time.sleep(dice.uniform(0, 0.02))
            server.kill()
            for thread in threads:
                thread.join()
            server.start()
            with closing(connect(server.url)) as store:
                collection = Collection.open(store, "test")
                for writer in writers:
                    writer.look(collection)
                forget_leases(collection)
                check(collection, writers[0].model | writers[1].model)
        with closing(connect(server.url)) as store:
            collection = Collection.open(store, "test")
            rebuild(collection)
            check(collection, writers[0].model | writers[1].model)
