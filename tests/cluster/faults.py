"""Faults that strike an ingest: what they are, when they strike, and the machines they strike."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.cluster.driver import LAYOUTS, Layout
from tests.object_store import FlakyProxy
from tests.servers import Server

SEED = 2026
# Requests of an undisturbed run to S3, and of one that has some images already.
REQUESTS, REQUESTS_BEGUN = 46, 38
POLL_SECONDS = 0.02
# With room for one decoder, and a GPU on paper.
NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1}
# A worker that decodes is looked for this long; then any worker will do.
LOOK_SECONDS = 1.0


class Kind(StrEnum):
    """What can go wrong."""

    ACTOR = "an embedding actor is killed"
    WORKER = "a decoding (or idle) worker is killed"
    NODE = "the second node is killed, then there is a new one"
    S3_BUSY = "S3 answers 503"
    S3_CUT = "S3 ends its answers half-way"
    S3_GONE = "S3 closes connections without an answer"
    S3_SLOW = "S3 takes a second longer"
    REDIS_KILLED = "Redis is killed, then started again"
    REDIS_PAUSED = "Redis stands still"
    REDIS_BACK = "Redis goes back to what it had"
    REDIS_FULL = "Redis has no memory left"
    REDIS_DROPS = "Redis is set to drop keys when its memory is full"
    DISK_FULL = "Redis has no disk left, and dies of it"
    DRIVER_KILLED = "the driver is killed"
    DRIVER_STOPPED = "the driver gets Ctrl-C"


MOODS = {Kind.S3_BUSY: "503", Kind.S3_CUT: "cut", Kind.S3_GONE: "drop", Kind.S3_SLOW: "slow"}
# Of these one waits for another: a server cannot be started twice, or be told anything while dead.
OF_REDIS = (
    Kind.REDIS_KILLED,
    Kind.REDIS_PAUSED,
    Kind.REDIS_BACK,
    Kind.REDIS_FULL,
    Kind.REDIS_DROPS,
    Kind.DISK_FULL,
)
# These end a run: of a round's faults they come last.
LAST = (Kind.DRIVER_KILLED, Kind.DRIVER_STOPPED)


@dataclass(frozen=True)
class Fault:
    """A fault and its moment.

    Attributes:
        after: requests that S3 has seen of the run by then.
        delay: seconds from then on.
        lasts: seconds until what was taken away is back.
        choice: which one of several, from 0 to 1.
    """

    kind: Kind
    after: int
    delay: float
    lasts: float
    choice: float


@dataclass(frozen=True)
class Round:
    """What happens in a round; it depends on its number alone.

    Attributes:
        layout: of the pipeline, see `tests.cluster.driver`.
        begun: whether the collection has its hash tables and some images by then, so that what is
            embedded is committed at once; else it is held back for the tables.
    """

    number: int
    layout: Layout
    begun: bool
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, number: int) -> Round:
        """The round of a number: the kinds come in turn, each as often as any other."""
        kinds = _kinds()
        for earlier in range(number):
            _take(kinds, earlier)
        dice = random.Random(f"{SEED}-{number}-moments")
        struck = sorted(dict.fromkeys(_take(kinds, number)), key=_turn)
        begun = dice.random() < 0.5
        requests = REQUESTS_BEGUN if begun else REQUESTS
        moments = sorted(dice.randint(1, requests) for _ in struck)
        faults = tuple(_fault(*one, dice) for one in zip(struck, moments, strict=True))
        # Where actors decode, there is no other worker.
        layouts = LAYOUTS[:1] if Kind.WORKER in struck else LAYOUTS
        return cls(number, dice.choice(layouts), begun, faults)


def _kinds() -> Iterator[Kind]:
    dice = random.Random(SEED)
    while True:
        yield from dice.sample(list(Kind), len(Kind))


def _turn(kind: Kind) -> int:
    """Decoding is soon over, and the driver's end is a run's."""
    return 0 if kind is Kind.WORKER else 2 if kind in LAST else 1


def _take(kinds: Iterator[Kind], number: int) -> list[Kind]:
    return list(islice(kinds, random.Random(f"{SEED}-{number}").randint(1, 3)))


def _fault(kind: Kind, after: int, dice: random.Random) -> Fault:
    delay = dice.choice([0.0, dice.uniform(0, 1)])
    return Fault(kind, after, delay, lasts=dice.uniform(0.1, 3), choice=dice.random())


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MB."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def filled_disk(folder: Path) -> Iterator[None]:
    """Whoever writes there meanwhile finds no room."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    try:
        yield
    finally:
        filler.unlink()


class Strikes:
    """Strikes a run with a round's faults, each in a thread of its own."""

    def __init__(self, rig: Rig, driver: subprocess.Popen[str], faults: tuple[Fault, ...]) -> None:
        self.struck: list[Kind] = []
        self.errors: list[Exception] = []
        self._rig = rig
        self._driver = driver
        self._first_request = len(rig.s3.requests)
        self._threads = [Thread(target=self._strike, args=[fault]) for fault in faults]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until everything is as it was."""
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _strike(self, fault: Fault) -> None:
        try:
            if self._wait_for(fault) and self._rig.strike(fault, self._driver):
                self.struck.append(fault.kind)
        # Raised in the thread of the test.
        except Exception as error:
            self.errors.append(error)

    def _wait_for(self, fault: Fault) -> bool:
        """Wait for its moment; False if the run ends before."""
        while len(self._rig.s3.requests) - self._first_request < fault.after:
            if self._driver.poll() is not None:
                return False
            time.sleep(POLL_SECONDS)
        time.sleep(fault.delay)
        return self._driver.poll() is None


@dataclass
class Rig:
    """All that an ingest needs: Ray on two nodes, Redis, S3; each can be struck."""

    cluster: Cluster
    redis: Server
    s3: FlakyProxy
    # When Redis last went back in time.
    went_back: float = 0.0
    redis_is_struck: Lock = field(default_factory=Lock)
    tried: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def add_node(self) -> None:
        """A node in place of one that was killed."""
        # Or Ray would set signal handlers, which a thread cannot. It ends when the head does.
        self.cluster._shutdown_at_exit = False
        self.cluster.add_node(**NODE)

    def strike(self, fault: Fault, driver: subprocess.Popen[str]) -> bool:
        """Do it, and undo it after its time; False if there was nothing to strike."""
        if fault.kind is Kind.ACTOR:
            return self._kill_process(fault.choice, driver, ["SmallStepActor"])
        if fault.kind is Kind.WORKER:
            return self._kill_process(fault.choice, driver, ["decode_shard", "ray::IDLE"])
        if fault.kind in LAST:
            stop = fault.kind is Kind.DRIVER_STOPPED
            driver.send_signal(signal.SIGINT if stop else signal.SIGKILL)
            return True
        with self.redis_is_struck if fault.kind in OF_REDIS else nullcontext():
            if driver.poll() is not None:
                return False
            with self._without(fault.kind):
                time.sleep(fault.lasts)
        return True

    @contextmanager
    def _without(self, kind: Kind) -> Iterator[None]:
        if kind is Kind.NODE:
            [node] = self.cluster.worker_nodes
            self.cluster.remove_node(node, allow_graceful=False)
            yield
            self.add_node()
        elif kind is Kind.REDIS_KILLED:
            self.redis.kill()
            yield
            self.redis.start()
        elif kind is Kind.REDIS_PAUSED:
            with self.redis.frozen():
                yield
        elif kind is Kind.REDIS_BACK:
            backup = self.redis.folder / "backup"
            self.redis.back_up(backup)
            yield
            self.redis.die_and_restore(backup)
            self.redis.start()
            self.went_back = time.monotonic()
        elif kind is Kind.REDIS_FULL:
            self.redis.ask("CONFIG", "SET", "maxmemory", self.redis.ask("INFO")["used_memory"])
            yield
            self.redis.ask("CONFIG", "SET", "maxmemory", 0)
        elif kind is Kind.REDIS_DROPS:
            self.redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            yield
            self.redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        elif kind is Kind.DISK_FULL:
            with filled_disk(self.redis.folder):
                yield
            if self.redis.process.poll() is not None:
                self.redis.start()
        else:
            self.s3.mood = MOODS[kind]
            yield
            self.s3.mood = ""

    def _kill_process(self, choice: float, driver: subprocess.Popen[str], names: list[str]) -> bool:
        """Kill a worker of the cluster that bears the first name, or else the next."""
        for name in names:
            deadline = time.monotonic() + LOOK_SECONDS
            while driver.poll() is None and (time.monotonic() < deadline or name == names[-1]):
                found = sorted(self._workers(name), key=lambda process: process.pid)
                with suppress(psutil.NoSuchProcess, IndexError):
                    found[int(choice * len(found))].kill()
                    return True
                time.sleep(POLL_SECONDS)
        return False

    def _workers(self, name: str) -> Iterator[psutil.Process]:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    yield process
