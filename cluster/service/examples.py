"""Several examples of a question, embedded side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from simdist.search.question import Example, Question


async def embedded(
    question: Question, embed: Callable[[Example], Coroutine[Any, Any, Example]]
) -> Question:
    """The same question, each of its examples through `embed` at once: images go in one batch.

    Where one fails, the others are given up.
    """
    like, unlike = list(question.positive), list(question.unlike)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(embed(example)) for example in like + unlike]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    found = [task.result() for task in tasks]
    return replace(question.by_vector(None), like=found[: len(like)], unlike=found[len(like) :])
