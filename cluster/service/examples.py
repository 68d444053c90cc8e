"""The images that a question asks by, embedded side by side."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol, TypeVar

from simdist.search.question import Example, Question

Asked = TypeVar("Asked", Question, Example)


class Embed(Protocol):
    """Makes a vector of an image that is asked by."""

    async def __call__(self, asked: Asked) -> Asked: ...


async def embedded(question: Question, embed: Embed) -> Question:
    """The same question, each of its examples through `embed` at once: images go in one batch.

    Where one fails, the others are given up.
    """
    if not question.several:
        return await embed(question)
    like, unlike = list(question.positive), list(question.unlike)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(embed(example)) for example in like + unlike]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    found = [task.result() for task in tasks]
    return replace(question.by_vector(None), like=found[: len(like)], unlike=found[len(like) :])
