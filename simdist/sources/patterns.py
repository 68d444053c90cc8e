"""Brace and glob patterns: `shards/{000..099}.tar`, `photos/**/*.jpg`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from simdist.errors import UsageError

# Names that the braces of one pattern may stand for.
MAX_NAMES = 100_000

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_GLOB = re.compile(r"[*?\[]")
_SPECIAL = re.compile(r"[*?\[{]")
_RUN = re.compile("(.)-(.)|(.)", re.DOTALL)  # of characters between brackets
_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


def is_pattern(text: str) -> bool:
    """Whether a name is a pattern."""
    return is_glob(text) or _BRACES.search(text) is not None


def is_glob(text: str) -> bool:
    """Whether a pattern without braces still stands for several names."""
    return _GLOB.search(text) is not None


def expand(pattern: str) -> Iterator[str]:
    """What the braces stand for: `{a,b}`, or `{000..099}` with its leading zeros.

    Raises:
        UsageError: braces that hold neither, or stand for more than `MAX_NAMES`.
    """
    count = 1
    for inside in _BRACES.findall(pattern):
        count *= sum(1 for _ in _choices(inside, pattern))
        if count > MAX_NAMES:
            raise _too_many(pattern)
    return _expanded(pattern, pattern)


def _expanded(text: str, pattern: str) -> Iterator[str]:
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    for choice in _choices(match[1], pattern):
        yield from _expanded(text[: match.start()] + choice + text[match.end() :], pattern)


def _choices(inside: str, pattern: str) -> Iterator[str]:
    ends = _RANGE.fullmatch(inside)
    if ends:
        first, last = int(ends[1]), int(ends[2])
        if last < first:
            raise UsageError(f"{pattern}: {{{inside}}} counts down; write the lower number first")
        if last - first >= MAX_NAMES:
            raise _too_many(pattern)
        width = len(ends[1]) if ends[1].startswith("0") else 0
        return (f"{number:0{width}}" for number in range(first, last + 1))
    if "," in inside:
        return iter(inside.split(","))
    raise UsageError(f"{pattern}: write {{000..099}} or {{a,b}} between braces, not {{{inside}}}")


def _too_many(pattern: str) -> UsageError:
    return UsageError(f"{pattern} stands for more than {MAX_NAMES:,} names; use * instead")


def base(pattern: str) -> str:
    """The folder, without a last slash, in which all that matches lies."""
    head = pattern[: found.start()] if (found := _SPECIAL.search(pattern)) else pattern
    return head.rpartition("/")[0]


def matcher(pattern: str) -> re.Pattern[str]:
    """A regular expression for whole names: `*` and `?` stop at a slash, `**` does not.

    Raises:
        UsageError: a bracket that no name can match.
    """
    parts = []
    for token in _TOKEN.findall(pattern):
        if token == "**/":  # noqa: S105 - no password
            parts.append("(?:.*/)?")
        elif token == "**":  # noqa: S105
            parts.append(".*")
        elif token == "*":  # noqa: S105
            parts.append("[^/]*")
        elif token == "?":  # noqa: S105
            parts.append("[^/]")
        elif len(token) > 1:
            inside, negated = token[1:-1], token[1] == "!"
            chosen = _RUN.sub(_escaped, inside[1:] if negated else inside)
            parts.append(f"[^/{chosen}]" if negated else f"[{chosen}]")
        else:
            parts.append(re.escape(token))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise UsageError(f"{pattern} is not a pattern: {error.msg}") from error


def _escaped(run: re.Match[str]) -> str:
    return re.escape(run[3]) if run[3] else f"{re.escape(run[1])}-{re.escape(run[2])}"
