"""What the bearer of a token may still ask, and has under way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from cluster.service.config import ServiceConfig
from cluster.service.http.problems import RETRY_AFTER, ProblemError
from cluster.service.turns import ASKED_BY

# What an image costs, to be fetched or not; all else costs 1, and of a batch each search.
IMAGE_COST = 2
# The part of a worker's requests that are one bearer's at most, where there are several.
_SHARE = 4
# Where a request's scope has them.
BEARERS = "simdist.bearers"


@dataclass
class _Bucket:
    """A token bucket: what a bearer may still send."""

    left: float
    filled_at: float = field(default_factory=time.monotonic)


class Bearers:
    """The bearers of a service's tokens; without tokens there is nobody to be told apart."""

    def __init__(self, config: ServiceConfig) -> None:
        self._tokens = len(config.tokens.read) + len(config.tokens.write)
        self._rate = config.rate
        self._most = max(1, config.queue // _SHARE) if self._tokens > 1 else config.queue
        self._buckets: dict[str, _Bucket] = {}
        self._under_way: Counter[str] = Counter()

    def owe(self, bearer: str, cost: int) -> None:
        """Count what a request has cost: only now it is known."""
        if self._tokens:
            self._buckets[bearer].left -= cost

    def charge(self, bearer: str, cost: int) -> None:
        """Count what a request costs; what is owed is waited for.

        Raises:
            ProblemError: the bearer asks too often.
        """
        if not self._tokens:
            return
        rate = self._rate
        bucket = self._buckets.setdefault(bearer, _Bucket(2 * rate))
        now = time.monotonic()
        # Two seconds' worth may come at once.
        bucket.left = min(2 * rate, bucket.left + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if bucket.left < 1:
            raise ProblemError(
                429,
                f"more than {rate:g} requests a second for this token, an image counted as "
                f"{IMAGE_COST}",
                headers=RETRY_AFTER,
            )
        bucket.left -= cost

    @contextmanager
    def holding(self, bearer: str) -> Iterator[None]:
        """While a request is under way.

        Raises:
            ProblemError: the bearer has its share of them already.
        """
        if self._under_way[bearer] >= self._most:
            raise ProblemError(
                429,
                f"this token has {self._most} requests under way; try again soon",
                headers=RETRY_AFTER,
            )
        self._under_way[bearer] += 1
        before = ASKED_BY.set(bearer)
        try:
            yield
        finally:
            ASKED_BY.reset(before)
            self._under_way[bearer] -= 1


def charge(request: Request, cost: int) -> None:
    """Charge the bearer of a request for what its body asks, beyond the request itself.

    Raises:
        ProblemError: it asks too often.
    """
    if cost:
        bearers: Bearers = request.scope[BEARERS]
        bearers.charge(ASKED_BY.get(), cost)


def charge_afterwards(request: Request, cost: int) -> None:
    """Charge the bearer of a request for what it took to answer it."""
    bearers: Bearers = request.scope[BEARERS]
    bearers.owe(ASKED_BY.get(), cost)
