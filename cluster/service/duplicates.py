"""The duplicates of a collection that callers go through, and what they decide about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from cluster.service.finder import Progress, Wanted
from cluster.service.worker import QueryWorker
from simdist.errors import BusyError, SimdistError
from simdist.joining.decisions import Decisions
from simdist.joining.keeping import Keep
from simdist.joining.removing import mark, remove_marked
from simdist.joining.review import Counts, Member

# Seconds in which a finder that runs answers; one that must be started first takes longer.
_PATIENCE = 4.0
_STARTING = Progress("waiting", doing="starting")


class DuplicateGroups:
    """What callers do with duplicates, as far as they may. To be asked from the worker's loop.

    All workers ask the one finder, so they agree; decisions are kept with the collection.
    """

    def __init__(self, worker: QueryWorker) -> None:
        self._worker = worker
        self._asked: set[asyncio.Future[Any]] = set()

    async def start(self, wanted: Wanted, *, name: str | None) -> Progress:
        """Begin to look for them, or join who looks already.

        Args:
            name: of the collection; that of `wanted` is not looked at.
        """
        found = await self._ask("start", await self._seen(wanted, name))
        return _STARTING if found is None else found

    async def cancel(self, wanted: Wanted, *, name: str | None) -> Progress:
        """Stop looking for them."""
        found = await self._ask("cancel", await self._seen(wanted, name, write=True))
        return Progress("none") if found is None else found

    async def page(
        self, wanted: Wanted, *, name: str | None, offset: int, n: int, keep: Keep | None
    ) -> tuple[Progress, list[list[Member]]]:
        """How far it is, and some groups once they are known."""
        found = await self._ask("page", await self._seen(wanted, name), offset, n, keep)
        return (_STARTING, []) if found is None else found

    async def counts(
        self, wanted: Wanted, *, name: str | None, keep: Keep | None, offset: int
    ) -> Counts:
        """How far somebody has come, and what a rule would mark.

        Raises:
            CollectionError: they are not found yet.
            UsageError: the rule asks for what is known of no image.
        """
        seen = await self._seen(wanted, name)
        counts: Counts = _there(await self._ask("counts", seen, keep, offset))
        return counts

    async def mark_by_rule(
        self, wanted: Wanted, *, name: str | None, keep: Keep | None, offset: int
    ) -> tuple[list[str], int | None]:
        """Mark the images of some groups that a rule does not keep; where the next begin.

        Raises:
            CollectionError, UsageError: as `counts`.
        """
        seen = await self._seen(wanted, name, write=True)
        uris, following = _there(await self._ask("proposed", seen, keep, offset))
        marked = await self._mark(name, uris)
        return marked, following

    async def decide(
        self,
        name: str | None,
        *,
        apart: Sequence[tuple[str, str]],
        keep: Sequence[str],
        remove: Sequence[str],
        undo: bool,
    ) -> int:
        """Keep decisions with the collection, or no longer; returns how many.

        Raises:
            UsageError: no image can have such a URI, or there are too many.
        """
        opened = await self._worker.now(name, write=True)
        pairs = frozenset((min(pair), max(pair)) for pair in apart)
        decided = Decisions(apart=pairs, keep=frozenset(keep))
        if undo:
            decided = replace(decided, remove=frozenset((uri, "") for uri in remove))
            await self._worker.reading(lambda: decided.take_from(opened))
            return len(decided.apart) + len(decided.keep) + len(decided.remove)
        await self._worker.reading(lambda: decided.add_to(opened))
        marked = await self._mark(name, remove) if remove else []
        return len(decided.apart) + len(decided.keep) + len(marked)

    async def remove(self, name: str | None) -> tuple[int, int, int]:
        """Delete some of what is marked for removal, as `remove_marked`."""
        opened = await self._worker.now(name, write=True)
        return await self._worker.reading(lambda: remove_marked(opened))

    async def _mark(self, name: str | None, uris: Sequence[str]) -> list[str]:
        opened = await self._worker.now(name, write=True)
        marks = await self._worker.reading(lambda: mark(opened, uris))
        return sorted(uri for uri, _ in marks.remove)

    async def _seen(self, wanted: Wanted, name: str | None, *, write: bool = False) -> Wanted:
        """What is wanted, of a collection that the caller may see, or change."""
        opened = await self._worker.now(name, write=write)
        return replace(wanted, collection=opened.name)

    async def _ask(self, what: str, *given: Any) -> Any:
        """Ask the finder; None while it starts.

        Raises:
            BusyError: it is gone, or has too much to do.
            SimdistError: what it answers.
        """
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

        finder = self._worker.finder
        if finder is None:
            raise BusyError("nobody looks for duplicates here; try again")
        # Not cancelled where it takes long: it may be what starts the finder.
        asking = asyncio.ensure_future(_answer(getattr(finder, what).remote(*given)))
        self._asked.add(asking)
        asking.add_done_callback(self._asked.discard)
        done, _ = await asyncio.wait([asking], timeout=_PATIENCE)
        if not done:
            return None
        try:
            found = asking.result()
        except (RayActorError, DeploymentUnavailableError, BackPressureError) as error:
            raise BusyError("what looks for duplicates was interrupted; try again") from error
        if isinstance(found, SimdistError):
            raise found
        return found


async def _answer(asked: Awaitable[Any]) -> Any:
    return await asked


def _there(found: Any) -> Any:
    if found is None:
        raise BusyError("what looks for duplicates has too much to do; try again")
    return found
