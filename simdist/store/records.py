"""Records: what is stored of an image beside its vector, as bytes; those of 60 rows end to end."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from simdist.errors import StoreError
from simdist.store.metadata import unpack_metadata

# Rows in a block.
BLOCK = 60

# length of the URI, length of the label + 1 (0: no label), length of the place
_HEADER = struct.Struct("<HHB")
# Added to the length of a place that is followed by a print, with its length before it.
_PRINTED = 128
_PRINT_LENGTH = struct.Struct("<H")
# A date as it is packed, without escapes.
_DATE = re.compile(rb'[{,]"date":"([^"\\\\]*)"')
_HAS_DATE = b'"date":'
# What is in place of the length of a label where there is none.
_NO_LABEL = bytes(2)
# Added to the length of a dead row's record.
DEAD = 1 << 31


@dataclass(frozen=True)
class Record:
    """What is stored of one image beside its vector.

    `place` is `simdist.sources.place`'s, `look` is `simdist.prints`'.
    """

    uri: str
    label: str | None
    metadata: Mapping[str, Any]
    place: bytes = b""
    look: bytes = b""


def pack_records(
    uris: Sequence[bytes],
    labels: Sequence[str | None],
    metadata: Sequence[Mapping[str, Any]],
    places: Sequence[bytes],
    looks: Sequence[bytes],
) -> list[bytes]:
    """Records: each a header, URI, place, print, label, metadata as JSON; or nothing for it.

    Args:
        uris: encoded.
        places: of at most 127 bytes.
        looks: of at most 65,535 bytes; empty for none.
    """
    return [
        _HEADER.pack(len(uri), 0, len(place)) + uri + place
        if label is None and not extra and not look
        else _pack_record(uri, label, extra, place, look)
        for uri, label, extra, place, look in zip(
            uris, labels, metadata, places, looks, strict=True
        )
    ]


def pack_record(record: Record) -> bytes:
    """One record, as `pack_records` packs it."""
    uri, label, look = record.uri.encode(), record.label, record.look
    [packed] = pack_records([uri], [label], [record.metadata], [record.place], [look])
    return packed


def _pack_record(
    uri: bytes, label: str | None, metadata: Mapping[str, Any], place: bytes, look: bytes
) -> bytes:
    label_bytes = label.encode() if label is not None else b""
    extra = json.dumps(metadata, separators=(",", ":")).encode() if metadata else b""
    label_mark = len(label_bytes) + 1 if label is not None else 0
    place_mark = len(place)
    if look:
        place_mark += _PRINTED
        look = _PRINT_LENGTH.pack(len(look)) + look
    header = _HEADER.pack(len(uri), label_mark, place_mark)
    return b"".join((header, uri, place, look, label_bytes, extra))


def unpack_records(block: bytes) -> list[bytes]:
    """The records of a block, from the first on; empty where there is none any more.

    Raises:
        StoreError: the block is damaged.
    """
    if not block:
        return [b""] * BLOCK
    lengths = np.frombuffer(block[: 4 * BLOCK].ljust(4 * BLOCK, b"\0"), "<u4")
    bounds = [0, *np.cumsum(lengths % DEAD).tolist()]
    if len(block) != 4 * BLOCK + bounds[-1]:
        raise StoreError("a block of records is damaged: it has another length than it says")
    return [
        block[4 * BLOCK + start : 4 * BLOCK + end] if length < DEAD else b""
        for length, (start, end) in zip(lengths.tolist(), pairwise(bounds), strict=True)
    ]


def unpack_record(record: bytes) -> Record:
    """One packed record.

    Raises:
        StoreError: it is damaged.
    """
    try:
        uri_end, place_end, look_at, label_at, extra_at = _bounds(record)
        return Record(
            uri=record[_HEADER.size : uri_end].decode(),
            label=record[label_at:extra_at].decode() if _HEADER.unpack_from(record)[1] else None,
            metadata=unpack_metadata(record[extra_at:]) if len(record) > extra_at else {},
            place=record[uri_end:place_end],
            look=record[look_at:label_at],
        )
    # `ValueError`: it is not UTF-8, or not JSON.
    except (struct.error, ValueError) as error:
        raise _damaged(error) from error


def unpack_uri(record: bytes) -> str:
    """Only the URI of a packed record.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return record[_HEADER.size : _HEADER.size + _HEADER.unpack_from(record)[0]].decode()
    except (struct.error, ValueError) as error:
        raise _damaged(error) from error


def unpack_listed(record: bytes) -> tuple[bytes, bytes | None, str | None]:
    """The URI and the label of a packed record, encoded, and its metadata's `date`.

    Raises:
        StoreError: it is damaged.
    """
    try:
        uri_end, _, _, label_at, extra_at = _bounds(record)
        label = record[label_at:extra_at] if record[2:4] != _NO_LABEL else None
        extra = record[extra_at:]
        return record[_HEADER.size : uri_end], label, _date(extra) if _HAS_DATE in extra else None
    except (struct.error, ValueError) as error:
        raise _damaged(error) from error


def _date(extra: bytes) -> str | None:
    """The date in metadata, of which the rest is not read: that would take most of the time."""
    found = _DATE.findall(extra)
    # Not one that lies within another field, nor in a text.
    if len(found) == 1 and extra.count(b"{") == 1:
        return str(found[0].decode())
    date = unpack_metadata(extra).get("date")
    return date if isinstance(date, str) else None


def unpack_look(record: bytes) -> bytes:
    """Only the print of a packed record; empty if there is none.

    Raises:
        StoreError: it is damaged.
    """
    try:
        _, _, look_at, label_at, _ = _bounds(record)
    except struct.error as error:
        raise _damaged(error) from error
    return record[look_at:label_at]


def _bounds(record: bytes) -> tuple[int, int, int, int, int]:
    """Where the URI and the place end, where the print and the label start, where it ends."""
    uri_size, label_mark, place_mark = _HEADER.unpack_from(record)
    uri_end = _HEADER.size + uri_size
    look_at = label_at = place_end = uri_end + place_mark % _PRINTED
    if place_mark >= _PRINTED:
        look_at += _PRINT_LENGTH.size
        label_at = look_at + _PRINT_LENGTH.unpack_from(record, place_end)[0]
    return uri_end, place_end, look_at, label_at, label_at + max(label_mark - 1, 0)


def _damaged(error: Exception) -> StoreError:
    return StoreError(f"the record of an image is damaged: {error}")
