"""Which collections the bearer of a request may see, and which it may change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from simdist.errors import ForbiddenError, UnknownCollectionError


@dataclass(frozen=True)
class Rights:
    """What a bearer may do.

    Attributes:
        reads, writes: names of collections; None for all. What it may change it may see, too.
    """

    reads: frozenset[str] | None = None
    writes: frozenset[str] | None = None

    def seen(self, served: Sequence[str]) -> list[str]:
        """Those of the collections that are served which it may see."""
        if self.reads is None or self.writes is None:
            return list(served)
        return [name for name in served if name in self.reads | self.writes]

    def changed(self, served: Sequence[str]) -> list[str]:
        """Those that it may change."""
        seen = self.seen(served)
        return seen if self.writes is None else [name for name in seen if name in self.writes]

    def named(self, name: str | None, served: Sequence[str], *, write: bool = False) -> str:
        """The collection of a name; by default the first for which this is right.

        Raises:
            UnknownCollectionError: it may not see that one, which is as if there were none.
            ForbiddenError: it may see it only.
        """
        seen, changed = self.seen(served), self.changed(served)
        if name is None:
            [name, *_] = (changed if write else seen) or seen or [""]
        if name not in seen:
            there = f"only: {', '.join(seen)}" if seen else "nor is another for this token"
            raise UnknownCollectionError(f"the collection {name!r} is not served here, {there}")
        if write and name not in changed:
            raise ForbiddenError(f"this token may only read the collection {name!r}")
        return name


# Of whoever's request is being answered.
RIGHTS: ContextVar[Rights] = ContextVar("simdist_rights", default=Rights())  # noqa: B039 - frozen


@contextmanager
def having(rights: Rights) -> Iterator[None]:
    """While a request is answered."""
    before = RIGHTS.set(rights)
    try:
        yield
    finally:
        RIGHTS.reset(before)
