"""Dates of images as numbers, in their order: `2024-05-17T09:30:00`, or only its beginning.

A date is the time on the clock where the picture was taken, as a person remembers it: an offset to
UTC is left aside.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?)?)?"
    r"(?=[^0-9]|\Z)"
)
# How many values each part has; 0 is "not said", so what begins with 0 is one more.
_MONTHS, _DAYS, _HOURS, _MINUTES, _SECONDS = 13, 32, 25, 61, 62
# A date's number is a multiple of this, by its month, and what lies within that.
MONTH = _DAYS * _HOURS * _MINUTES * _SECONDS
# `2024-05-17T09:30:00`: where its digits are, and what is between them.
_WHOLE = 19
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_SIGNS, _SEPARATORS = [4, 7, 10, 13, 16], np.frombuffer(b"--T::", np.uint8)


def packed_date(text: object) -> int:
    """A date's number, the later the larger; 0 for what is none."""
    match = _DATE.match(text) if isinstance(text, str) else None
    if match is None:
        return 0
    year, month, day = (int(part or 0) for part in match.groups()[:3])
    hour, minute, second = (int(part) + 1 if part else 0 for part in match.groups()[3:])
    # A month or a day that is said is not 0.
    if not year or (match[2] and not month) or (match[3] and not day):
        return 0
    if month >= _MONTHS or day >= _DAYS or hour >= _HOURS:
        return 0
    if minute >= _MINUTES or second >= _SECONDS:
        return 0
    days = (year * _MONTHS + month) * _DAYS + day
    return ((days * _HOURS + hour) * _MINUTES + minute) * _SECONDS + second


def packed_dates(texts: Sequence[str | None]) -> NDArray[np.int64]:
    """(n,) the number of each, as `packed_date` gives it; whole dates at once, which most are."""
    packed = np.zeros(len(texts), np.int64)
    whole = [i for i, text in enumerate(texts) if text and len(text) == _WHOLE and text.isascii()]
    signs = np.frombuffer("".join(texts[i] or "" for i in whole).encode(), np.uint8)
    signs = signs.reshape(-1, _WHOLE)
    digits = signs[:, _DIGITS].astype(np.int64) - ord("0")
    fits = (signs[:, _SIGNS] == _SEPARATORS).all(axis=1) & ((digits >= 0) & (digits <= 9)).all(
        axis=1
    )
    year = digits[:, :4] @ (1000, 100, 10, 1)
    month, day, hour, minute, second = (digits[:, i : i + 2] @ (10, 1) for i in range(4, 14, 2))
    hour, minute, second = hour + 1, minute + 1, second + 1
    fits &= (
        (year > 0) & (month > 0) & (month < _MONTHS) & (day > 0) & (day < _DAYS) & (hour < _HOURS)
    )
    fits &= (minute < _MINUTES) & (second < _SECONDS)
    days = (year * _MONTHS + month) * _DAYS + day
    packed[whole] = ((days * _HOURS + hour) * _MINUTES + minute) * _SECONDS + second
    others = set(range(len(texts))) - {
        i for i, fit in zip(whole, fits.tolist(), strict=True) if fit
    }
    for i in others:
        packed[i] = packed_date(texts[i])
    return packed


def date_text(packed: int) -> str | None:
    """The date of a number, as far as it was said; None for 0."""
    if not packed:
        return None
    rest, second = divmod(packed, _SECONDS)
    rest, minute = divmod(rest, _MINUTES)
    rest, hour = divmod(rest, _HOURS)
    rest, day = divmod(rest, _DAYS)
    text = month_text(rest)
    if day:
        text += f"-{day:02}"
    if hour:
        text += f"T{hour - 1:02}:{minute - 1:02}"
    return text + (f":{second - 1:02}" if second else "")


def month_text(number: int) -> str:
    """The month of all dates whose numbers are so many times `MONTH`: `2024-05`, or `2024`."""
    year, month = divmod(number, _MONTHS)
    return f"{year:04}-{month:02}" if month else f"{year:04}"
