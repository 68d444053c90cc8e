"""An image's URI -> its bytes: one image, or a shard with many requests in flight."""

from __future__ import annotations

import os
import random
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from simdist.errors import (
    FetchError,
    SourceError,
    UsageError,
)
from simdist.images import limits
from simdist.sources import objects
from simdist.sources.access import Access
from simdist.sources.files import find
from simdist.sources.folder import open_without_waiting
from simdist.sources.reference import MEMBER, ImageRef, split_member, uri_path
from simdist.sources.table import read_rows
from simdist.sources.tar import find_member, read_member
from simdist.sources.web import fetch
from simdist.sources.zips import read_zip_member

# Requests in flight in one process, and bytes that those of one shard may bring: an embedding actor
# fetches two shards at a time.
IN_FLIGHT = 32
MAX_IN_FLIGHT = 128 * 1024 * 1024
# Members of an archive that lie close together are read with one request of so many bytes.
RUN_BYTES = 8 * 1024 * 1024
MAX_GAP = 256 * 1024

# Of a web address that is busy: attempts, and seconds before the second.
ATTEMPTS = 3
BACKOFF = 0.5

_UNKNOWN_SIZE = 8 * 1024 * 1024

Outcome = bytes | Exception


def is_web_address(text: str) -> bool:
    """Whether it is an http or https address."""
    return text.lower().startswith(("http://", "https://"))


def read_bytes(uri: str, *, access: Access | None = None) -> bytes:
    """Read one image's bytes from where its URI says.

    Args:
        access: how to reach object stores; by default what the environment says.

    Raises:
        ImageError: it is larger than `limits.MAX_BYTES`.
        SourceError: it cannot be read; for a web address, `FetchError`.
        UsageError: it names nothing that simdist reads.
    """
    if is_web_address(uri):
        return fetch(uri, any_port=True)
    access = access or Access.resolve()
    archive, member = split_member(uri)
    if member is not None:
        return _read_member(archive, member, access)
    if objects.is_object(uri):
        return objects.read_object(uri, access, limit=limits.MAX_BYTES)
    return _read_file(uri)


def read_many(refs: Sequence[ImageRef], access: Access) -> Iterator[Outcome]:
    """Read images in their order; what cannot be read comes as the error.

    Files of this machine are read one by one. Of all else up to `IN_FLIGHT` requests are under
    way, and what is busy for the moment is tried again: by obstore, or here for web addresses.
    """
    pool = _pool()
    waiting: deque[tuple[int, Future[Sequence[Outcome]]]] = deque()
    try:
        for run in _runs(refs):
            local = run[0].uri.startswith("file:")
            size = sum(ref.size or _UNKNOWN_SIZE for ref in run)
            while waiting and (
                local
                or len(waiting) == IN_FLIGHT
                or size + sum(other for other, _ in waiting) > MAX_IN_FLIGHT
            ):
                yield from waiting.popleft()[1].result()
            if local:
                yield from _read_run(run, access)
            else:
                waiting.append((size, pool.submit(_read_run, run, access)))
        while waiting:
            yield from waiting.popleft()[1].result()
    finally:
        for _, left in waiting:
            left.cancel()


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """The threads of this process that wait for requests: starting some for each costs more."""
    return ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="simdist-fetch")


def _runs(refs: Sequence[ImageRef]) -> Iterator[list[ImageRef]]:
    """What is read together: neighbours in an archive; else each image alone."""
    run: list[ImageRef] = []
    for ref in refs:
        if run and not _follows(run, ref):
            yield run
            run = []
        run.append(ref)
    if run:
        yield run


def _follows(run: list[ImageRef], ref: ImageRef) -> bool:
    first, last = run[0], run[-1]
    if first.offset is None or last.offset is None or ref.offset is None:
        return False
    if _archive(first) != _archive(ref) or ref.offset <= last.offset:
        return False
    gap = ref.offset - last.offset - last.size
    return _is_row(ref) or (gap <= MAX_GAP and ref.offset + ref.size <= first.offset + RUN_BYTES)


def _archive(ref: ImageRef) -> str:
    return ref.uri.partition(MEMBER)[0]


def _is_row(ref: ImageRef) -> bool:
    return _archive(ref).lower().endswith(".parquet")


def _read_run(run: Sequence[ImageRef], access: Access) -> Sequence[Outcome]:
    first = run[0]
    try:
        if first.offset is None:
            if is_web_address(first.uri):
                return [_fetch_patiently(first.uri)]
            return [read_bytes(first.uri, access=access)]
        if _is_row(first):
            rows = [ref.offset or 0 for ref in run]
            fingerprint = first.fingerprint.rpartition("-")[0]
            return read_rows(_archive(first), fingerprint, rows, access)
        limits.check_size(first.size)
        start = first.offset
        end = max((ref.offset or 0) + ref.size for ref in run)
        data = memoryview(_read_span(_archive(first), start, end - start, access))
        spans = [((ref.offset or 0) - start, ref.size) for ref in run]
        return [bytes(data[at : at + size]) for at, size in spans]
    # Whatever a reader raises is these images' misfortune, not the job's.
    except Exception as error:
        return [error] * len(run)


def _fetch_patiently(uri: str) -> bytes:
    for attempt in range(1, ATTEMPTS):
        try:
            return fetch(uri, any_port=True)
        except FetchError as error:
            if not error.passing:
                raise
        # Jitter, or all that were refused together would come back together.
        time.sleep(BACKOFF * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    return fetch(uri, any_port=True)


def _read_member(archive: str, member: str, access: Access) -> bytes:
    if archive.lower().endswith(".parquet"):
        if not member.isdecimal():
            raise UsageError(f"{archive}{MEMBER}{member} names no row: write {archive}{MEMBER}17")
        [image] = read_rows(archive, find(archive, access).fingerprint, [int(member)], access)
        if isinstance(image, Exception):
            raise image
        return image
    if archive.lower().endswith(".zip"):
        return read_zip_member(archive, unquote_to_bytes(member).decode(errors="replace"), access)
    if (packed := read_member(archive, member, access)) is not None:
        return packed
    start, size = find_member(archive, member, access)
    limits.check_size(size)
    return _read_span(archive, start, size, access)


def _read_span(archive: str, start: int, size: int, access: Access) -> bytes:
    if objects.is_object(archive):
        [data] = objects.read_ranges(archive, access, starts=[start], lengths=[size])
        return data
    path = uri_path(archive)
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _read_file(uri: str) -> bytes:
    path = uri_path(uri)
    try:
        with open(path, "rb", opener=open_without_waiting) as file:
            details = os.fstat(file.fileno())
            if not stat.S_ISREG(details.st_mode):
                raise SourceError(f"{path} is not a regular file")
            limits.check_size(details.st_size)
            return file.read(limits.MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
