"""What is stored but cannot have been written by simdist: errors that name its key."""

from __future__ import annotations

import re

from simdist.errors import Remedy, StoreError

_COUNT = re.compile(rb"[0-9]{1,19}")
_COLLECTION = re.compile(r"\{(.+)/\d+\}")


def damaged(key: str, what: str = "") -> StoreError:
    """The error for a key that is damaged; `what` says how, where that is known."""
    found = _COLLECTION.search(key)
    return StoreError(
        f"{key} is damaged{what and f' ({what})'}: check the collection, and repair what can be "
        "repaired",
        remedy=Remedy.CHECK,
        about=found[1] if found else "",
    )


def count_of(value: bytes | None, key: str, field: str, *, least: int = 0, most: int) -> int:
    """A number that is stored in a field of a hash.

    Raises:
        StoreError: it is none from `least` to `most`.
    """
    number = int(value) if value is not None and _COUNT.fullmatch(value) else -1
    if not least <= number <= most:
        raise damaged(key, f"its {field} cannot be {(value or b'')[:40]!r}")
    return number
