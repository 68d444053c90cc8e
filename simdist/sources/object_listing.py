"""The objects under a prefix, page by page, several folders side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.background import in_background
from simdist.sources.objects import (
    INVALID_PATH,
    Address,
    bucket_store,
    found,
    translated,
)
from simdist.sources.plain_s3 import PlainS3
from simdist.sources.reference import Found

if TYPE_CHECKING:
    pass

# Pages that are asked for at a time, and with that the bound of the memory.
SIDE_BY_SIDE = 16
PAGE = 1000
_LAST = "\U0010ffff"  # behind every name that is in use


@dataclass
class _Cursor:
    """A part of the keys: those that a stream yields, up to `until`; `after` is the last of them.

    `is_plain` where the stream is that of `PlainS3`.
    """

    stream: Iterator[Sequence[Any]]
    page: Future[Sequence[Any] | None]
    until: str | None = None
    after: str | None = None
    is_plain: bool = False


def list_objects(address: Address, access: Access) -> Iterator[Found]:
    """List what is under a prefix, as it arrives; always in the same order.

    Stores list keys in their order, 1,000 a request. Where a page lies in one folder as a whole,
    another listing starts behind that folder, and so on: folders come side by side, a page of
    each in turn, and nothing is ever held but the pages that are under way.

    Raises:
        SourceError: the store cannot be asked.
    """
    store = bucket_store(address.scheme, address.bucket, access)
    prefix = address.key.rstrip("/") or None

    def begin(after: str | None) -> _Cursor:
        stream = iter(store.list(prefix, offset=after, chunk_size=PAGE))
        return _Cursor(stream, in_background(next, stream, None), after=after)

    with translated(address, access):
        cursors = deque([begin(None)])
    while cursors:
        cursor = cursors.popleft()
        page = _page(cursor, address, access)
        if page is None:
            continue
        keys = [meta["path"] for meta in page]
        cursor.after = keys[-1] if keys else cursor.after
        if cursor.until is None and len(cursors) + 1 < SIDE_BY_SIDE:
            folder = _common_folder(keys)
            if len(folder) > len(prefix or "") + 1:
                cursor.until = folder + _LAST
                cursors.append(begin(cursor.until))
        if cursor.until is None or not keys or keys[-1] <= cursor.until:
            cursor.page = in_background(next, cursor.stream, None)
            cursors.append(cursor)
        for meta in page:
            if cursor.until is None or meta["path"] <= cursor.until:
                yield found(address, meta)


def _page(cursor: _Cursor, address: Address, access: Access) -> Sequence[Any] | None:
    """The next page of a cursor; by plain requests where it holds keys that are no paths.

    obstore refuses a page with such a key, or makes two keys one, which are out of order then.

    Raises:
        SourceError: the store cannot be asked.
    """
    with translated(address, access):
        if cursor.is_plain or address.scheme != "s3":
            return cursor.page.result()
        try:
            page = cursor.page.result()
        except Exception as error:
            if INVALID_PATH not in str(error):
                raise
            plain = PlainS3(address.bucket, access)
        else:
            if page is None or _is_in_order(page, cursor.after):
                return page
            try:
                plain = PlainS3(address.bucket, access)
            except SourceError:  # it signs otherwise: the store may just not sort
                return page
        prefix = address.key.rstrip("/")
        cursor.stream = plain.list(prefix and prefix + "/", cursor.after or "")
        cursor.is_plain = True
        return next(cursor.stream, None)


def _is_in_order(page: Sequence[Any], after: str | None) -> bool:
    keys = [after or "", *(meta["path"] for meta in page)]
    return all(one < other for one, other in pairwise(keys))


def _common_folder(keys: Sequence[str]) -> str:
    """The folder, with its slash, in which all keys of a page are; '' unless the page is full.

    Only where the keys are in order is there anything behind a folder to begin at.
    """
    if len(keys) < PAGE or any(one >= other for one, other in pairwise(keys)):
        return ""
    first, last = keys[0].split("/")[:-1], keys[-1].split("/")[:-1]
    same = takewhile(lambda names: names[0] == names[1], zip(first, last, strict=False))
    return "".join(name + "/" for name, _ in same)
