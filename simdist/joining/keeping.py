"""Which image of a group is kept, by what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Any

from simdist.errors import UsageError
from simdist.joining.decisions import Decisions
from simdist.store import layout


class Keep(StrEnum):
    """A rule for the one to keep.

    largest: most pixels; of as many, most bytes.
    oldest, newest: by the date when it was taken.
    path: the shortest URI.
    """

    largest = "largest"
    oldest = "oldest"
    newest = "newest"
    path = "path"

    def check(self, records: Iterable[layout.Record]) -> None:
        """Check that the rule can tell some images from others.

        Raises:
            UsageError: what it asks for is known of none.
        """
        if self is Keep.path:
            return
        what = "sizes" if self is Keep.largest else "dates"
        if not any(any(_size(one)) if what == "sizes" else date_of(one) for one in records):
            raise UsageError(
                f"to keep the {self} needs the {what} of images, and those in groups have none: "
                "index them with a simdist that notes them, or choose by path"
            )


def best_of(rule: Keep, records: Sequence[layout.Record]) -> layout.Record:
    """The image to keep; of those that a rule cannot tell apart, the first.

    Args:
        records: the representative first.
    """
    if rule is Keep.path:
        return min(records, key=lambda record: (len(record.uri), record.uri))
    if rule is Keep.largest:
        return max(records, key=_size)
    dated = [record for record in records if date_of(record)] or list(records)
    # Dates are ISO 8601: they sort as text.
    return (min if rule is Keep.oldest else max)(dated, key=date_of)


def kept_of(
    rule: Keep | None,
    uris: Sequence[str],
    record: Callable[[str], layout.Record],
    decisions: Decisions,
) -> set[str]:
    """Which images of a group are kept: those that a decision protects, else one.

    Args:
        rule: for the one, among those that are not marked for removal; by default the first.
        uris: of the group, the representative first.
        record: what is stored of each.
    """
    protected = {uri for uri in uris if decisions.protects(uri)}
    if protected:
        return protected
    left = [uri for uri in uris if not decisions.removes(uri)]
    if rule is None or not left:
        return {*left[:1]}
    return {best_of(rule, [record(uri) for uri in left]).uri}


def date_of(record: layout.Record) -> str:
    """When an image was taken, as ISO 8601; empty where nobody knows."""
    date = record.metadata.get("date")
    return date if isinstance(date, str) else ""


def sides_of(record: layout.Record) -> tuple[int, int] | None:
    """An image's width and height in pixels, where they are known."""
    width, height = _whole(record.metadata.get("width")), _whole(record.metadata.get("height"))
    return (width, height) if width and height else None


def bytes_of(record: layout.Record) -> int:
    """An image's bytes; 0 where nobody knows."""
    return _whole(record.metadata.get("bytes"))


def _size(record: layout.Record) -> tuple[int, int]:
    width, height = sides_of(record) or (0, 0)
    return width * height, bytes_of(record)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
