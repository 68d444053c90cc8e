"""Which stage of a pipeline is the slow one, and how long the rest takes."""

from __future__ import annotations

import time

import pytest

from simdist.ingest.progress import Progress, Rate, StageClock
from simdist.ingest.shards import Work


class Time:
    """A clock that moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_shares_are_of_the_time_of_all_that_can_do_a_stage(clock: Time) -> None:
    stages = StageClock(embedders=2, decoders=4)
    clock.now += 10
    stages.add(Work(fetch=4, decode=20, embed=15))
    stages.add_commit(3)
    shares = stages.shares(listing=1)
    assert shares == {"list": 0.1, "fetch": 0.1, "decode": 0.5, "embed": 0.75, "commit": 0.3}
    assert stages.slowest(shares) == "embed"


def test_stages_that_the_same_processes_do_are_slow_together(clock: Time) -> None:
    """Fetching, decoding and embedding leave no time for anything else, so a commit is not it."""
    stages = StageClock(embedders=2, decoders=None)
    clock.now += 10
    stages.add(Work(fetch=2, decode=10, embed=8))
    stages.add_commit(8)
    shares = stages.shares(listing=0)
    assert shares["commit"] > max(shares["fetch"], shares["decode"], shares["embed"])
    assert stages.slowest(shares) == "decode"


def test_the_rate_is_that_of_the_last_half_minute(clock: Time) -> None:
    rate = Rate()
    assert rate.at(0) == 0
    clock.now += 60  # nothing is finished while the actors start
    assert rate.at(10) == 0
    clock.now += 10
    assert rate.at(60) == 5
    clock.now += 25
    assert rate.at(310) == 10


def test_the_time_left_is_known_once_all_is_listed() -> None:
    progress = Progress(listed=100, listing_done=True, skipped=20, done=25, failed=5, rate=10)
    assert progress.seconds_left == 5
    assert Progress(listed=100, rate=10).seconds_left is None
    assert Progress(listed=100, listing_done=True).seconds_left is None
