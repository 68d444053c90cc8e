"""The thread that searches: whatever waits when it is free is searched together."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future as Done
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from simdist.errors import CollectionError, SimdistError, UnknownImageError
from simdist.search.pages import Hits
from simdist.search.question import Question

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from cluster.service.metrics import ServiceMetrics
    from simdist.index.collection import Collection
    from simdist.search.searcher import Searcher

# Searched together: what comes later waits for them, some milliseconds at most.
MAX_TOGETHER = 32


class Found(NamedTuple):
    """What was found, and the home of the collection in which: an alias may lead to another."""

    home: str
    hits: Hits


_Answer = Found | Exception
_Waiting = tuple[Question, asyncio.Future[Found]]


class Searching:
    """Searches in a thread of its own. To be asked from one event loop.

    One thread: a searcher is for one, and on one core two would only take turns. While it is busy,
    questions gather, so that many cost one change of threads and one call of the searcher; one
    alone never waits, and one whose asker has gone is left out.
    """

    def __init__(
        self,
        searcher: Callable[[str | None], Searcher],
        forget: Callable[[Collection], None],
        metrics: ServiceMetrics,
    ) -> None:
        """A thread that has nothing to do yet.

        Args:
            searcher: of a collection; raises where there is none.
            forget: called where a collection turns out to be another one than it was.
            metrics: where searches are counted.
        """
        self._searcher = searcher
        self._forget = forget
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="simdist-search")
        self._waiting: deque[_Waiting] = deque()
        self._busy = False

    async def ask(self, question: Question) -> Found:
        """The images most similar to what a question asks by, the best first.

        Raises:
            SimdistError: as `Searcher.ask`.
        """
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        self._waiting.append((question, future))
        if not self._busy:
            self._busy = True
            # Not at once: others that this turn of the loop brings are searched with it.
            loop.call_soon(self._start, loop)
        try:
            return await future
        finally:
            self._metrics.stage("search", time.perf_counter() - started)

    def _start(self, loop: AbstractEventLoop) -> None:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < MAX_TOGETHER:
            one = self._waiting.popleft()
            if not one[1].done():
                batch.append(one)
        self._busy = bool(batch)
        if batch:
            done = self._thread.submit(self._answer, [question for question, _ in batch])
            settle = partial(self._settle, loop, batch)
            done.add_done_callback(lambda done: loop.call_soon_threadsafe(settle, done))

    def _settle(
        self, loop: AbstractEventLoop, batch: Sequence[_Waiting], done: Done[list[_Answer]]
    ) -> None:
        self._start(loop)  # the next first: it is searched while these are answered
        failed = done.exception()
        answers = [failed] * len(batch) if failed else done.result()
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _answer(self, questions: Sequence[Question]) -> list[_Answer]:
        """Answer each question; those that ask alike, and by vectors, with one search."""
        alike: dict[object, list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            alike[_likeness(question) or number].append(number)
        answers: list[_Answer] = [Found("", Hits())] * len(questions)
        for numbers in alike.values():
            found = self._together([questions[number] for number in numbers])
            for number, answer in zip(numbers, found, strict=True):
                answers[number] = answer
        return answers

    def _together(self, questions: Sequence[Question]) -> Sequence[_Answer]:
        if len(questions) == 1:
            return [self._alone(questions[0])]
        first = questions[0]
        try:
            searcher = self._searcher(first.collection)
            # Another model has taken over since they were embedded, or has not yet.
            if first.made_by not in ("", searcher.collection.model_id):
                return [self._alone(question) for question in questions]
            vectors = np.stack([np.asarray(question.vector) for question in questions])
            found = searcher.search_many(vectors, n=first.n, recall=first.recall)
        # One of them is bad, or all are: each is told what is wrong with it.
        except SimdistError:
            return [self._alone(question) for question in questions]
        self._metrics.searched(searcher, first.recall, len(questions))
        return [Found(searcher.collection.home_name, hits) for hits in found]

    def _alone(self, question: Question) -> _Answer:
        try:
            searcher = self._searcher(question.collection)
            try:
                hits = searcher.ask(question)
            except UnknownImageError:
                raise
            except CollectionError:
                self._forget(searcher.collection)
                raise
        except Exception as error:
            return error
        self._metrics.searched(searcher, question.recall)
        return Found(searcher.collection.home_name, hits)


def _likeness(question: Question) -> object:
    """What questions have in common that one search answers; None where it must be alone."""
    vector = question.vector
    if vector is None or question.filter is not None or question.min_score is not None:
        return None
    if question.several or question.without or question.offset or question.after:
        return None
    if question.group_by is not None:
        return None
    return question.collection, question.n, question.recall, np.shape(vector), question.made_by
