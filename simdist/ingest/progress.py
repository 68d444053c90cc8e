"""How far an ingest has come, and which of its stages is the slow one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from simdist.ingest.duplicates import Arrived
from simdist.ingest.failures import Failure
from simdist.ingest.shards import Work

STAGES = ("list", "fetch", "decode", "embed", "commit")
RATE_SECONDS = 30.0


@dataclass(frozen=True)
class Count:
    """How far a listing has come.

    Attributes:
        listed: entries met.
        skipped: of them, images that the collection has.
        failed: of them, those that cannot even be listed.
        repeated: of those skipped, those that name an image which is named again; about.
        done: whether that is all.
    """

    listed: int = 0
    skipped: int = 0
    failed: int = 0
    repeated: int = 0
    done: bool = False


@dataclass(frozen=True)
class Progress:
    """How far an ingest has come.

    Attributes:
        listed: entries met in the source so far.
        listing_done: whether that is all of them.
        skipped: images that the collection had already.
        done: images embedded.
        failed: images that cannot be indexed.
        seconds: since the start.
        rate: images a second, done or failed, over the last half minute.
        stages: for each of `STAGES` the share of the time, 0 to 1, that what can do it was busy
            with it; nothing before the pipeline runs.
        slowest: the stage that the others wait for; None before the pipeline runs.
        queues: shards that are decoding, ready for an actor, or at one.
        waits_for: why nothing moves, in words for a person; None while something does.
    """

    listed: int = 0
    listing_done: bool = False
    skipped: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    slowest: str | None = None
    queues: Mapping[str, int] = field(default_factory=dict)
    waits_for: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take; None while that cannot be said."""
        if not self.listing_done or not self.rate:
            return None
        return (self.listed - self.skipped - self.done - self.failed) / self.rate


@dataclass(frozen=True)
class Summary:
    """What an ingest did.

    Attributes:
        listed: entries met in the source.
        skipped: images that the collection had already.
        added: images that are new in the collection.
        replaced: images whose content had changed, or all that there were with `force`.
        unchanged: images that another process had indexed meanwhile.
        failed: images that cannot be indexed.
        pruned: images deleted, for they are gone from the source.
        repeated: entries that name an image which is named again: the last counts.
        seconds: from the start to the end.
        passed_over: files that the source holds and that are no images, or hidden, by their suffix
            or by what they are.
        failures: the first of those that `failed`.
        duplicates: images that are the same pictures as others, where that was asked for.
        left_out: of these, those that were not indexed.
        copies: the first of the duplicates.
        stages, slowest: as in `Progress`.
        licence: of the model's weights, if the collection had nothing of it before; empty where
            nobody says.
    """

    listed: int = 0
    skipped: int = 0
    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0
    pruned: int = 0
    repeated: int = 0
    seconds: float = 0.0
    passed_over: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    duplicates: int = 0
    left_out: int = 0
    copies: tuple[Arrived, ...] = ()
    stages: Mapping[str, float] = field(default_factory=dict)
    slowest: str | None = None
    licence: str = ""

    @property
    def indexed(self) -> int:
        """Images of the source that the collection has now, or others that are the same."""
        return self.added + self.replaced + self.skipped + self.unchanged + self.left_out


class Rate:
    """Images a second over the last half minute."""

    def __init__(self) -> None:
        # When how many were finished; from the first ones on, for what came before is start-up.
        self._marks: deque[tuple[float, int]] = deque()

    def at(self, finished: int) -> float:
        """The rate now that so many are finished."""
        now = time.monotonic()
        if finished:
            self._marks.append((now, finished))
        while self._marks and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0] if self._marks else (now, 0)
        return (finished - before) / (now - since) if now > since else 0.0


class StageClock:
    """How busy the stages of a pipeline are."""

    def __init__(self, *, embedders: int, decoders: int | None) -> None:
        """Start the clock.

        Args:
            embedders: how many shards can be embedded at once.
            decoders: how many can be fetched and decoded at once; None where those who embed a
                shard fetch and decode it first.
        """
        self._start = time.monotonic()
        workers = embedders if decoders is None else decoders
        self._slots = dict.fromkeys(STAGES, 1)
        self._slots |= {"fetch": workers, "decode": workers, "embed": embedders}
        # Who does what: stages that the same processes do in turn are slow together.
        together = ("fetch", "decode", "embed") if decoders is None else ("fetch", "decode")
        self._groups = [("list",), together, ("embed",), ("commit",)]
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def add(self, work: Work) -> None:
        """Count the work that a shard was."""
        self._seconds["fetch"] += work.fetch
        self._seconds["decode"] += work.decode
        self._seconds["embed"] += work.embed

    def add_commit(self, seconds: float) -> None:
        """Count the time that a commit took."""
        self._seconds["commit"] += seconds

    def shares(self, *, listing: float) -> dict[str, float]:
        """`Progress.stages`; the listing was busy for so many seconds."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        seconds = self._seconds | {"list": listing}
        return {
            stage: round(min(1.0, seconds[stage] / (elapsed * self._slots[stage])), 3)
            for stage in STAGES
        }

    def slowest(self, shares: Mapping[str, float]) -> str:
        """`Progress.slowest`: the longest stage of those who are the most busy."""
        group = max(self._groups, key=lambda group: sum(shares[stage] for stage in group))
        return max(group, key=shares.__getitem__)
