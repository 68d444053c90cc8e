"""Files that Pillow does not write: TIFFs of any numbers, RAW photographs, Photoshop's."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bad_inputs import encode

_SHORT, _LONG, _RATIONAL, _SIGNED = 3, 4, 5, 10
_KINDS = {"u": 1, "i": 2, "f": 3}  # TIFF's sample formats


def tiff(
    pixels: NDArray[Any], *, photometric: int | None = None, colours: list[int] | None = None
) -> bytes:
    """A TIFF of (height, width) or (height, width, channels) numbers of any kind, as they are.

    Args:
        photometric: as TIFF 6.0 numbers it; by default black is zero, or RGB.
        colours: a palette, all reds before the greens and blues.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits, kind = pixels.dtype.itemsize * 8, _KINDS[pixels.dtype.kind]
    if photometric is None:
        photometric = 3 if colours else 1 if channels == 1 else 2
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    entries = _strip(width, height, data) | {
        258: (_SHORT, [bits] * channels),
        262: (_SHORT, [photometric]),
        277: (_SHORT, [channels]),
        339: (_SHORT, [kind] * channels),
    }
    if colours:
        entries[320] = (_SHORT, colours)
    return _tiff([entries], [data])


def dng(picture: Image.Image) -> bytes:
    """A RAW photograph: grey data behind a colour filter, and a JPEG preview."""
    width, height = (side // 2 * 2 for side in picture.size)
    light = np.asarray(picture.convert("L"))[:height, :width].astype(np.uint16) << 4
    jpeg, raw = encode(picture, "JPEG", quality=92), light.astype("<u2").tobytes()
    first = _strip(width, height, raw) | {
        254: (_LONG, [0]),
        258: (_SHORT, [16]),
        262: (_SHORT, [32803]),
        271: (2, b"simdist\0"),
        272: (2, b"test camera\0"),
        277: (_SHORT, [1]),
        330: (_LONG, [0]),
        33421: (_SHORT, [2, 2]),
        33422: (1, bytes((0, 1, 1, 2))),
        50706: (1, bytes((1, 4, 0, 0))),
        50708: (2, b"simdist test camera\0"),
        50717: (_LONG, [4095]),
        50721: (_SIGNED, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        50728: (_RATIONAL, [1, 1, 1, 1, 1, 1]),
        50778: (_SHORT, [21]),
    }
    preview = _strip(*picture.size, jpeg) | {
        254: (_LONG, [1]),
        258: (_SHORT, [8, 8, 8]),
        259: (_SHORT, [7]),
        262: (_SHORT, [6]),
        277: (_SHORT, [3]),
    }
    return _tiff([first, preview], [raw, jpeg])


def psd(picture: Image.Image) -> bytes:
    """Photoshop's file with its flat picture alone."""
    width, height = picture.size
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, height, width, 8, 3)
    planes = b"".join(band.tobytes() for band in picture.convert("RGB").split())
    return header + bytes(12) + bytes(2) + planes


_Entries = dict[int, tuple[int, Any]]


def _strip(width: int, height: int, data: bytes) -> _Entries:
    return {
        256: (_LONG, [width]),
        257: (_LONG, [height]),
        259: (_SHORT, [1]),
        273: (_LONG, [0]),
        278: (_LONG, [height]),
        279: (_LONG, [len(data)]),
    }


def _tiff(directories: list[_Entries], pixels: list[bytes]) -> bytes:
    """Directories, the second of which hangs on the first, and their pixels, one strip each."""
    at, starts = 8, []
    for entries, data in zip(directories, pixels, strict=True):
        starts.append(at)
        at += 2 + 12 * len(entries) + 4
        entries[273] = (_LONG, [0])
        at += sum(
            size for kind, value in entries.values() if (size := len(_packed(kind, value))) > 4
        )
        entries[273] = (_LONG, [at])
        at += len(data) + len(data) % 2
    if len(directories) > 1:
        directories[0][330] = (_LONG, [starts[1]])
    out = b"II*\0" + struct.pack("<I", starts[0])
    for start, entries, data in zip(starts, directories, pixels, strict=True):
        rest, behind = b"", start + 2 + 12 * len(entries) + 4
        out += struct.pack("<H", len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            packed = _packed(kind, value)
            count = len(value) // (2 if kind in (_RATIONAL, _SIGNED) else 1)
            out += struct.pack("<HHI", tag, kind, count)
            if len(packed) > 4:
                out += struct.pack("<I", behind + len(rest))
                rest += packed
            else:
                out += packed.ljust(4, b"\0")
        out += bytes(4) + rest + data + bytes(len(data) % 2)
    return out


def _packed(kind: int, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    letter = {_SHORT: "H", _LONG: "I", _RATIONAL: "I", _SIGNED: "i"}[kind]
    return struct.pack(f"<{len(value)}{letter}", *value)
