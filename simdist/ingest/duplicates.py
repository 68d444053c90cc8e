"""Images that are the same pictures as others: what is done and said about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class OnDuplicate(StrEnum):
    """What becomes of a duplicate: it is indexed, left out, or indexed with a link."""

    report = "report"
    skip = "skip"
    link = "link"


@dataclass(frozen=True)
class Arrived:
    """An image that came as a duplicate of another one; `score` as in `arrival.Copy`."""

    uri: str
    duplicate_of: str
    score: float
