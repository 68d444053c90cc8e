"""Records -> columns of a table, and back, byte for byte, without going through them one by one.

A record is a header and five texts, end to end (`simdist.store.records`): what is computed of many
headers at once says where all texts lie.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

# As `records` has them: the URI's length, the label's and one more (0: none), the place's, with the
# mark of a print that follows, whose own length is two bytes.
_HEADER, _PRINTED, _PRINT_LENGTH = 5, 128, 2

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """(n,) texts end to end; text i is from `bounds[i]` to `bounds[i + 1]`."""

    data: NDArray[np.uint8]
    bounds: Offsets

    @classmethod
    def cut(cls, data: NDArray[np.uint8], starts: Offsets, lengths: Offsets) -> Texts:
        """Those that lie here and there in `data`."""
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        return cls(data[_places(starts, lengths, bounds)], bounds)

    @classmethod
    def of(cls, column: pa.Array) -> Texts:
        """Those of a column of binaries; nothing for null."""
        import pyarrow as pa

        column = column.cast(pa.large_binary()).fill_null(b"")
        offsets = np.frombuffer(column.buffers()[1], np.int64)
        bounds = offsets[column.offset : column.offset + len(column) + 1]
        data = column.buffers()[2]
        whole = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
        return cls(whole[bounds[0] : bounds[-1]], bounds - bounds[0])

    @property
    def lengths(self) -> Offsets:
        """(n,)"""
        return np.diff(self.bounds)

    def column(self, kind: Any, absent: NDArray[np.bool_] | None = None) -> pa.Array:
        """As a column of large strings or large binaries, null where it is absent."""
        import pyarrow as pa

        valid = None
        if absent is not None and absent.any():
            valid = pa.py_buffer(np.packbits(~absent, bitorder="little"))
        buffers = [valid, pa.py_buffer(self.bounds), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(kind, len(self.bounds) - 1, buffers)


def as_columns(records: Sequence[bytes]) -> dict[str, pa.Array]:
    """What records hold: `uri`, `label`, `metadata` (JSON), `place`, `print`."""
    import pyarrow as pa

    data = np.frombuffer(b"".join(records), np.uint8)
    sizes = np.fromiter(map(len, records), np.int64, len(records))
    starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]

    def number(at: Offsets) -> Offsets:
        return data[at].astype(np.int64) | data[at + 1].astype(np.int64) << 8

    uri_size, label_mark = number(starts), number(starts + 2)
    place_mark = data[starts + 4].astype(np.int64)
    place_size, printed = place_mark % _PRINTED, place_mark >= _PRINTED
    uri_at = starts + _HEADER
    place_at = uri_at + uri_size
    print_at = place_at + place_size + _PRINT_LENGTH * printed
    print_size = np.zeros_like(starts)
    print_size[printed] = number(print_at[printed] - _PRINT_LENGTH)
    label_at = print_at + print_size
    label_size = np.maximum(label_mark - 1, 0)
    extra_at = label_at + label_size
    extra_size = starts + sizes - extra_at
    text, raw = pa.large_string(), pa.large_binary()
    return {
        "uri": Texts.cut(data, uri_at, uri_size).column(text),
        "label": Texts.cut(data, label_at, label_size).column(text, label_mark == 0),
        "metadata": Texts.cut(data, extra_at, extra_size).column(text, extra_size == 0),
        "place": Texts.cut(data, place_at, place_size).column(raw, place_size == 0),
        "print": Texts.cut(data, print_at, print_size).column(raw, print_size == 0),
    }


def as_records(columns: dict[str, pa.Array]) -> tuple[list[bytes], list[bytes]]:
    """Records, and their URIs, of what `as_columns` made of them.

    Raises:
        SourceError: a text is longer than a record holds.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    uris, labels, extras, places, prints = (
        Texts.of(columns[name]) for name in ("uri", "label", "metadata", "place", "print")
    )
    has_label = np.asarray(columns["label"].is_valid())
    printed = prints.lengths > 0
    for name, texts, most in (
        ("uri", uris, 2**16 - 1),
        ("label", labels, 2**16 - 2),
        ("place", places, _PRINTED - 1),
        ("print", prints, 2**16 - 1),
    ):
        if texts.lengths.max(initial=0) > most:
            raise SourceError(f"a {name} has more than {most:,} bytes")
    if uris.lengths.min(initial=1) < 1 or (uris.data >= 128).any():
        raise SourceError("a URI is empty, or not ASCII")
    header = np.zeros((len(has_label), _HEADER), np.uint8)
    header[:, :2] = _number(uris.lengths)
    header[:, 2:4] = _number(np.where(has_label, labels.lengths + 1, 0))
    header[:, 4] = places.lengths + _PRINTED * printed
    sizes = np.concatenate([[0], np.cumsum(_PRINT_LENGTH * printed)])
    print_size = Texts(_number(prints.lengths[printed]).ravel(), sizes)
    ends = np.arange(len(has_label) + 1) * _HEADER
    raw = pa.large_binary()
    # Joined by Arrow: as fast as memory is copied.
    parts = [
        Texts(header.ravel(), ends).column(raw),
        uris.column(raw),
        places.column(raw),
        print_size.column(raw),
        prints.column(raw),
        labels.column(raw),
        extras.column(raw),
    ]
    records = Texts.of(pc.binary_join_element_wise(*parts, pa.scalar(b"", raw)))
    return _pieces(records), _pieces(uris)


def _number(values: Offsets) -> NDArray[np.uint8]:
    """(n,) -> (n, 2) bytes."""
    return values.astype("<u2")[:, None].view(np.uint8)


def _places(starts: Offsets, lengths: Offsets, bounds: Offsets) -> Offsets:
    """Where each byte of texts lies that start here and there."""
    places: Offsets = np.repeat(starts - bounds[:-1], lengths) + np.arange(bounds[-1])
    return places


def _pieces(texts: Texts) -> list[bytes]:
    whole, ends = texts.data.tobytes(), texts.bounds.tolist()
    return [whole[start:end] for start, end in itertools.pairwise(ends)]
