"""Query workers that hold a part of the partitions each, and how all of them answer a question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cluster.service.config import ServiceConfig
from cluster.service.metrics import ServiceMetrics
from cluster.service.opened import Opened
from cluster.service.ray_serve import keep_replica_private
from cluster.service.searching import Found, Searching
from simdist.errors import BusyError, SimdistError
from simdist.search.grouping import Grouping
from simdist.search.pages import Cursor, Hits, best_of
from simdist.search.question import Question
from simdist.store import connect

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from ray.serve.handle import DeploymentHandle

# Seconds between two attempts to reach a part none of whose workers is there, or to have all agree.
_PAUSE = 0.1


class PartWorker:
    """Searches the partitions of one part of each collection, as a replica of Serve."""

    def __init__(self, config: ServiceConfig, part: int) -> None:
        """Open what is there, and search it once."""
        from ray import serve

        keep_replica_private()
        opened = Opened(config, connect(config.redis_url), part=part)
        self._metrics = ServiceMetrics(serve.get_replica_context().replica_id.unique_id)
        self._searching = Searching(opened.searcher, opened.forget, self._metrics)
        opened.warm_up()

    async def search(self, question: Question) -> Found | SimdistError:
        """As `Searching.ask`; what cannot be answered is the answer, for Serve would wrap it."""
        try:
            return await self._searching.ask(question)
        except SimdistError as error:
            return error

    async def collect_metrics(self) -> list[Metric]:
        """This worker's metrics."""
        return self._metrics.collect()


class Parts:
    """Asks a worker of each part, and merges what they find.

    All parts answer, or there is no answer: one that is a part of the truth looks like the whole.
    A part whose worker dies is asked again until another answers, or the caller's time is up. All
    answer of one collection: while an alias is switched, some follow it sooner than others, and all
    are asked again until they agree, for the second that an answer may be behind.
    """

    def __init__(
        self,
        parts: Sequence[DeploymentHandle[Any]],
        by_vector: Callable[[Question], Awaitable[tuple[str, Question]]],
    ) -> None:
        """Nobody is asked yet.

        Args:
            by_vector: the same question, by a float32 vector, that of the image that it names; and
                the home of the collection which that is in.
        """
        self._parts = parts
        self._by_vector = by_vector

    async def ask(self, question: Question) -> Found:
        """The images most similar to what a question asks by, the best first.

        Raises:
            SimdistError: as `Searcher.ask`; BusyError where a part has too much to do.
        """
        while True:
            home, asked = await self._by_vector(question)
            if (hits := await self._answer(asked, home)) is not None:
                return Found(home, hits)
            await asyncio.sleep(_PAUSE)

    async def _answer(self, question: Question, home: str) -> Hits | None:
        """What all parts find; None where one has found it in another collection."""
        if question.group_by is None:
            return await self._page(question, home)
        grouping = Grouping(question)
        while (asked := grouping.question) is not None:
            if (page := await self._page(asked, home)) is None:
                return None
            grouping.take(asked, page)
        return grouping.answer()

    async def _page(self, question: Question, home: str) -> Hits | None:
        """The best of what all parts find; what is left out, is of all of it."""
        offset, n = question.offset, question.n
        asked = replace(question, offset=0, n=offset + n)
        found = await asyncio.gather(*(self._ask(part, asked) for part in self._parts))
        if {one.home for one in found} != {home}:
            return None
        before = offset + (Cursor.read(question.after).seen if question.after else 0)
        hits = best_of([one.hits for one in found], offset + n)
        return hits.part(slice(offset, offset + n)).continued(n, before)

    async def _ask(self, part: DeploymentHandle[Any], question: Question) -> Found:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        while True:
            try:
                found: Found | SimdistError = await part.search.remote(question)
            except BackPressureError as error:
                raise BusyError("more searches wait than can be answered; try again") from error
            # It died; another has the part, or soon will.
            except (RayActorError, DeploymentUnavailableError):
                await asyncio.sleep(_PAUSE)
                continue
            if isinstance(found, SimdistError):
                raise found
            return found
