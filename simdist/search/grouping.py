"""One hit for each product, folder or label, or a few: groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from simdist.index.fields import Key, typed, value_of
from simdist.search.pages import Hits
from simdist.search.question import Groups, Hit, Question
from simdist.settings import MAX_RESULTS

# Searched for at least: most groups are found by one search.
_LEAST, _TIMES = 64, 4


class Grouping:
    """Finds groups by one search after the other, each without the groups that are full already.

    Whoever has the searches done asks `question`, and says what was found with `take`, until there
    is no question left. First n groups are found; then those are filled that have too few hits.
    """

    def __init__(self, question: Question) -> None:
        """Nothing is found yet; the question has a `group_by`."""
        self._question = question
        self._groups: dict[Key | int, Hits] = {}
        self._full: set[Key] = set()
        self._open: set[Key] | None = None
        self._done = False

    @property
    def question(self) -> Question | None:
        """What to search for next."""
        asked, chosen = self._question, self._open
        if self._done:
            return None
        groups = Groups(
            asked.group_field, frozenset(self._full), None if chosen is None else frozenset(chosen)
        )
        wanted = len(chosen) if chosen is not None else self._wanted
        n = min(MAX_RESULTS, max(_LEAST, _TIMES * wanted * asked.group_size))
        return replace(asked, n=n, offset=0, group_by=None, group_size=1, groups=groups)

    @property
    def _wanted(self) -> int:
        return self._question.n + self._question.offset

    def take(self, asked: Question, hits: Hits) -> None:
        """Note what was found."""
        found: dict[Key | int, list[int]] = defaultdict(list)
        for i, hit in enumerate(hits):
            own = key_of(self._question, hit)
            found[hits.places[i] if own is None else own].append(i)
        size = self._question.group_size
        for key, numbers in found.items():
            self._groups[key] = hits.part(numbers[:size])
            if len(numbers) >= size and not isinstance(key, int):
                self._full.add(key)
        is_all = len(hits) < asked.n
        if self._open is None and (is_all or len(self._groups) >= self._wanted):
            best = sorted(self._groups.items(), key=lambda group: group[1].rank(0))[: self._wanted]
            self._groups = dict(best)
            self._open = {key for key in self._groups if not isinstance(key, int)}
        if self._open is not None:
            self._open -= self._full
            self._done = is_all or not self._open

    def answer(self) -> Hits:
        """The groups, that with the best hit first; each one's hits side by side."""
        every = list(self._groups.values())[self._question.offset :]
        hits = [hit for group in every for hit in group]
        return Hits(hits, [place for group in every for place in group.places])


def key_of(question: Question, hit: Hit) -> Key | None:
    """The group of a hit; None for one that has no such field, and is a group by itself."""
    return typed(value_of(question.group_field, hit.uri, hit.label, hit.metadata))
