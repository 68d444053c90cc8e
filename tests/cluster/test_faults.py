"""Whatever fails, and whenever: one clean run afterwards, and the index is the undisturbed one.

The first rounds have each kind of fault at least once; with SIMDIST_LONG=1 there are more. `-k
round-3` repeats a round, and `-s` shows the tally in the end.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from threading import Thread
from uuid import uuid4

import numpy as np
import pytest
import requests

from cluster.ingest.driver import ingest_images
from cluster.runtime import ray_session
from simdist.cli.indexing import INCOMPLETE
from simdist.cli.main import INTERRUPTED
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest.failures import kept
from simdist.ingest.progress import Summary
from simdist.settings import Settings
from simdist.sources import ImageRef, open_source
from simdist.sources.background import in_background
from simdist.store import Store, connect, layout
from tests.cluster.conftest import without_servers
from tests.cluster.driver import Layout, take_small_steps
from tests.cluster.faults import NODE, Kind, Rig, Round, Strikes, small_disk
from tests.cluster.nodes import WATCHFUL, ray_cluster
from tests.conftest import LONG, PHOTOS, lead_to_s3
from tests.index_contents import contents
from tests.object_store import FlakyProxy, ObjectStore
from tests.servers import running, valkey

ROUNDS = int(os.environ.get("SIMDIST_ROUNDS", "24" if LONG else "7"))
# No run may take longer, whatever befalls it; some 10 s are usual.
BOUND = 120.0
ENDS = {
    0: "success",
    INCOMPLETE: "success",
    1: "an error",
    INTERRUPTED: "stopped",
    -signal.SIGKILL: "killed",
}
# Of S3 while faults strike, so that there is something left to strike.
LATENCY = 0.2
NAME = "photos"
PER_CATEGORY = 8
# What a failure's reason says of each bad image.
BAD = {
    "cut.jpg": "truncated",
    "text.jpg": "not an image",
    "empty.jpg": "empty",
    "vanished.jpg": "there is no",
}


@dataclass(frozen=True)
class Stored:
    """What a collection keeps of an image, to the bit."""

    label: str | None
    vector: bytes


@dataclass
class Bench:
    """The rig, the bucket in it, and what an undisturbed ingest makes of the bucket.

    Attributes:
        begun: all keys of a collection that has the first category, as Redis dumps them.
    """

    rig: Rig
    bucket: ObjectStore
    store: Store
    model: Model
    index: dict[str, Stored] = field(default_factory=dict)
    begun: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def collection(self) -> Collection:
        return Collection.open(self.store, NAME)

    def uri(self, key: str = "") -> str:
        return f"{self.bucket.uri}/photos{key}"

    def clean_run(self, place: str = "") -> Summary:
        """An ingest that nothing disturbs."""
        collection = Collection.ensure(self.store, NAME, model=self.model)
        run = in_background(
            ingest_images,
            open_source(self.uri(place), access=self.bucket.access),
            collection=collection,
            model=self.model,
            on_progress=lambda _: None,
            # One will do for so few images, and starts in half the time of two.
            actors=1,
        )
        return run.result(BOUND)

    def images(self) -> list[ImageRef]:
        """What a listing of the bucket finds, the bad ones too."""
        entries = open_source(self.uri(), access=self.bucket.access).entries
        return [entry for entry in entries if isinstance(entry, ImageRef)]

    def start(self, layout: Layout) -> subprocess.Popen[str]:
        """The same ingest in a process of its own, through the proxy."""
        options = ["-c", NAME, "--model", "efficientnet-lite0"]
        places = ["--endpoint-url", self.rig.s3.url, "--redis", self.rig.redis.url]
        places += ["--ray-address", self.rig.cluster.address]
        driver = [sys.executable, "-m", "tests.cluster.driver", layout]
        return subprocess.Popen(
            [*driver, "ingest", self.uri(), *options, *places],
            env=without_servers(PYTHONFAULTHANDLER="1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def reset(self, *, begun: bool) -> None:
        """Nothing is indexed, or the first category is."""
        self.store.call("FLUSHALL")
        for key, value in self.begun.items() if begun else ():
            self.store.call("RESTORE", key, 0, value)

    def dump(self) -> dict[bytes, bytes]:
        """All that Redis holds."""
        names = self.store.call("KEYS", "*")
        return {name: self.store.call("DUMP", name) for name in names}

    def assert_bad_images_named(self, summary: Summary) -> None:
        """Each of them is a failure with its reason, and nothing else is."""
        reasons = {failure.uri: failure.reason for failure in summary.failures}
        assert reasons.keys() == {self.uri(f"/bad/{name}") for name in BAD}, summary
        for name, reason in BAD.items():
            assert reason in reasons[self.uri(f"/bad/{name}")]
        assert summary.failed == len(BAD)
        assert {one.failure.uri: one.failure.reason for one in kept(self.collection)} == reasons


def stored(collection: Collection) -> dict[str, Stored]:
    """All that a collection keeps; checks that its parts agree and nothing is there twice."""
    uris = contents(collection)
    [partition] = collection.partitions
    state = partition.state()
    rows, live = state.rows, state.live
    pairs = [pair for pair in partition.rows(np.arange(rows, dtype=np.uint32)) if pair is not None]
    assert len(pairs) == live == len(uris) == len(set(uris))
    records = [layout.unpack_record(record) for _, record in pairs]
    return {
        record.uri: Stored(record.label, vector.tobytes())
        for record, (vector, _) in zip(records, pairs, strict=True)
    }


@pytest.fixture(scope="module")
def bench(model: Model, s3_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The rig, filled; and what an undisturbed ingest makes of it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        # It writes before it answers: every second, on a busy disk, it may lose what it has
        # acknowledged in the last two (docs/reliability.md).
        small_disk(tmp_path_factory.mktemp("redis")) as disk,
        # A copy of a file that is being rewritten would be of no use.
        running(
            valkey(), disk, "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"
        ) as redis,
        closing(FlakyProxy(s3_url)) as proxy,
    ):
        # Before Ray starts: its workers have it from there.
        lead_to_s3(patch)
        # In the layout that needs fewer processes, whichever the disturbed run has.
        take_small_steps(patch, "together")
        bucket = filled_bucket(s3_url)
        proxy.trouble["vanished.jpg"] = ["404"] * 10**6
        with (
            ray_cluster(NODE, NODE, settings=WATCHFUL) as cluster,
            ray_session(Settings.resolve(ray_address=cluster.address)),
            closing(connect(redis.url)) as store,
        ):
            rig = Rig(cluster, redis, proxy)
            yield undisturbed(Bench(rig, bucket.at(proxy.url), store, model))
        tell(rig)


def filled_bucket(url: str) -> ObjectStore:
    """A bucket with 40 of the photographs, eight of each category, and the bad images."""
    bucket = ObjectStore(url, f"bucket-{uuid4().hex}")
    requests.put(f"{url}/{bucket.bucket}", timeout=30).raise_for_status()
    photos = [p for c in sorted(PHOTOS.iterdir()) for p in sorted(c.iterdir())[:PER_CATEGORY]]
    for photo in photos:
        bucket.put(f"photos/{photo.parent.name}/{photo.name}", photo.read_bytes())
    jpeg = photos[0].read_bytes()
    bad = [jpeg[: len(jpeg) // 2], b"this is text, whatever its name\n" * 9, b"", jpeg]
    for name, data in zip(BAD, bad, strict=True):
        bucket.put(f"photos/bad/{name}", data)
    return bucket


def undisturbed(bench: Bench) -> Bench:
    """Note what the index is like where nothing disturbs it."""
    bench.reset(begun=False)
    assert bench.clean_run(f"/{first_category()}").added == PER_CATEGORY
    bench.begun = bench.dump()
    bench.reset(begun=False)
    bench.assert_bad_images_named(bench.clean_run())
    bench.index = stored(bench.collection)
    assert len(bench.index) == PER_CATEGORY * len(list(PHOTOS.iterdir()))
    return bench


def first_category() -> str:
    return min(folder.name for folder in PHOTOS.iterdir())


def tell(rig: Rig) -> None:
    print("\nfaults that struck a run, and how the runs ended:")
    for tally in (rig.tried, rig.ended):
        print(*(f"{count:4}  {what}" for what, count in sorted(tally.items())), sep="\n")


def test_every_kind_of_fault_comes() -> None:
    kinds = {fault.kind for number in range(ROUNDS) for fault in Round.of(number).faults}
    assert kinds == {*Kind}


@pytest.mark.parametrize("number", range(ROUNDS), ids=lambda number: f"round-{number}")
def test_a_clean_run_repairs_what_faults_left(bench: Bench, number: int) -> None:
    this = Round.of(number)
    print(this)
    bench.reset(begun=this.begun)
    bench.rig.s3.latency = LATENCY
    start = time.monotonic()
    ended = strike_a_run(bench, this)
    print(f"{time.monotonic() - start:.1f} s, then the clean run")
    bench.rig.s3.latency = 0.0
    check_what_succeeded(bench, ended)

    start = time.monotonic()
    summary = bench.clean_run()
    print(f"{time.monotonic() - start:.1f} s: {summary}")
    bench.assert_bad_images_named(summary)
    assert stored(bench.collection) == bench.index
    # What the next run would ask, and skip.
    assert bench.collection.known(bench.images()).sum() == len(bench.index)


def strike_a_run(bench: Bench, this: Round) -> tuple[int, str, float]:
    """A run that faults strike; returns its exit code, what it said, and when the last of it."""
    driver = bench.start(this.layout)
    strikes = Strikes(bench.rig, driver, this.faults)
    try:
        out, said_at = finish(driver)
    finally:
        strikes.join()
    print(f"exit code {driver.returncode}; {strikes.struck}\n{out}")
    bench.rig.tried.update(strikes.struck)
    bench.rig.ended[ENDS.get(driver.returncode, "otherwise")] += 1
    allowed = {0: True, INCOMPLETE: True, 1: "error: " in out and "again" in out}
    allowed[INTERRUPTED] = Kind.DRIVER_STOPPED in strikes.struck
    allowed[-signal.SIGKILL] = Kind.DRIVER_KILLED in strikes.struck
    assert allowed.get(driver.returncode), "it ended as no run may"
    assert "Traceback" not in out
    assert "this is a defect" not in out
    return driver.returncode, out, said_at


def finish(driver: subprocess.Popen[str]) -> tuple[str, float]:
    """Wait for a run within its bound; returns what it said, and when it said the last of it."""
    said: list[tuple[str, float]] = []

    def listen() -> None:
        assert driver.stdout is not None
        with driver.stdout as lines:
            said.extend((line, time.monotonic()) for line in lines)

    listener = Thread(target=listen)
    listener.start()
    listener.join(BOUND)
    if hangs := listener.is_alive():
        # With PYTHONFAULTHANDLER it says where.
        driver.send_signal(signal.SIGABRT)
        listener.join(BOUND)
    driver.wait(BOUND)
    out = "".join(line for line, _ in said)
    assert not hangs, f"it hangs:\n{out}"
    return out, said[-1][1] if said else 0.0


def check_what_succeeded(bench: Bench, ended: tuple[int, str, float]) -> None:
    """A run that calls itself a success has indexed all but what it names as failed."""
    code, out, said_at = ended
    # Of what is lost when all is said, it cannot tell.
    if code in (0, INCOMPLETE) and bench.rig.went_back < said_at:
        images = bench.images()
        [failed] = re.findall(r"(\d+) failed", out)
        assert bench.collection.known(images).sum() + int(failed) == len(images)
