"""Damaged image files from a seed, and the process that decodes them all.

    python -m tests.mutations FORMAT|largest COUNT

prints one line of JSON when all is done, a `Report`. It dies with a traceback when a file raises
anything but `ImageError` or takes longer than `SECONDS`; the last line before names the file.
"""

from __future__ import annotations

import faulthandler
import json
import random
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bad_inputs import bomb
from tests.originals import originals

SIZE = 224
SECONDS = 60  # for one file: nobody waits for longer, and no busy machine is that slow
PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JXL", "JPEG2000", "PSD", "RAW"),
)
# What a header may say: none, one, negative, just below and above every limit.
LIES = (0, 1, 2, 7, 255, 8_000, 9_000, 16_383, 32_768, 65_535, 10**7, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass(frozen=True)
class Report:
    """What became of the files of one format.

    Attributes:
        decoded: files that became (SIZE, SIZE, 3) uint8.
        refused: files that raised `ImageError`.
        grown: by how many bytes the process's peak of resident memory rose above what it held
            once a first good file was decoded.
        blamed: the file that raised it last.
    """

    decoded: int
    refused: int
    grown: int
    blamed: str


def main() -> None:
    """Decode every mutation of a format as a worker does."""
    from simdist.errors import ImageError
    from simdist.images.decoding import decode

    form, count = sys.argv[1], int(sys.argv[2])
    decode(next((PHOTOS / "fish").glob("*.jpg")).read_bytes(), size=SIZE)  # loads what it needs
    start = peak = _peak()
    decoded, refused, blamed = 0, 0, ""
    for name, data in largest() if form == "largest" else mutations(form, count):
        print(name, flush=True)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            pixels = decode(data, size=SIZE)
        except ImageError as error:
            assert str(error)
            refused += 1
        else:
            assert pixels.shape == (SIZE, SIZE, 3)
            assert pixels.dtype == np.uint8
            decoded += 1
        faulthandler.cancel_dump_traceback_later()
        if (now := _peak()) > peak:
            peak, blamed = now, name
    print(json.dumps(asdict(Report(decoded, refused, peak - start, blamed))))


def _peak() -> int:
    """Peak of this program's resident memory, in bytes; `getrusage` starts from its parent's."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def mutations(form: str, count: int) -> Iterator[tuple[str, bytes]]:
    """Mutations of real photographs in one format, each with a name: variant, number, damage."""
    dice = random.Random(f"simdist {form}")
    seeds = list(originals(form, dice).items())
    for number in range(count):
        variant, data = seeds[number % len(seeds)]
        damage = dice.choice(DAMAGES)
        mutated = bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 4))):
            damage(mutated, dice, form)
        # Most with right checksums: the decoder would look no further.
        if form == "PNG" and dice.random() < 0.8:
            right_checksums(mutated)
        yield f"{form} {variant} {number} {damage.__name__}", bytes(mutated)


def largest() -> Iterator[tuple[str, bytes]]:
    """Pictures of as many pixels as are allowed, in few bytes and with alpha; one of too many."""
    yield "rgba", bomb(8_000, 10_000, colour=6)
    yield "grey and alpha", bomb(8_000, 10_000, colour=4)
    yield "too many", bomb(8_001, 10_000, colour=6)


def flip(data: bytearray, dice: random.Random, form: str) -> None:
    """Other bytes, half of them among the first, where the headers are."""
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(_end(data, dice))] = dice.choice((0, 0xFF, dice.randrange(256)))


def cut(data: bytearray, dice: random.Random, form: str) -> None:
    """An end that is missing, or bytes in between."""
    start = dice.randrange(4, _end(data, dice))
    del data[start : None if dice.random() < 0.5 else start + dice.randint(1, 400)]
    data.extend(bytes(max(0, 16 - len(data))))


def swap(data: bytearray, dice: random.Random, form: str) -> None:
    """Two blocks in each other's place."""
    length = dice.randint(1, min(256, len(data) // 3))
    one, other = (dice.randrange(_end(data, dice)) for _ in range(2))
    one, other = min(one, len(data) - length), min(other, len(data) - length)
    data[one : one + length], data[other : other + length] = (
        data[other : other + length],
        data[one : one + length],
    )


def repeat(data: bytearray, dice: random.Random, form: str) -> None:
    """A block that is there again and again."""
    start = dice.randrange(_end(data, dice))
    data[start:start] = data[start : start + dice.randint(1, 300)] * dice.choice((1, 2, 50))


def blank(data: bytearray, dice: random.Random, form: str) -> None:
    """A block of nothing but zeros or ones."""
    start = dice.randrange(_end(data, dice))
    length = min(dice.randint(1, 512), len(data) - start)
    data[start : start + length] = dice.choice((b"\0", b"\xff")) * length


def lie(data: bytearray, dice: random.Random, form: str) -> None:
    """A header that lies about size, depth or the place of something."""
    places = list(_fields(bytes(data), form))
    if not places:
        return flip(data, dice, form)
    at, layout = dice.choice(places)
    limit = 256 ** struct.calcsize(layout)
    at = min(at, len(data) - struct.calcsize(layout))
    data[at : at + struct.calcsize(layout)] = struct.pack(layout, dice.choice(LIES) % limit)
    if form == "PNG":
        right_checksums(data)


DAMAGES = (flip, flip, cut, swap, repeat, blank, lie, lie)


def _end(data: bytearray, dice: random.Random) -> int:
    return dice.choice((min(len(data), 200), len(data)))


# Where headers hold numbers: places in the file, or behind what a pattern finds.
_FIXED: dict[str, tuple[tuple[int, str], ...]] = {
    # Width, height; depth, colours, interlacing.
    "PNG": ((16, ">I"), (20, ">I"), (24, "B"), (25, "B"), (28, "B")),
    "WEBP": ((4, "<I"),),
    "GIF": ((6, "<H"), (8, "<H"), (10, "B")),
    # Channels, height, width, depth, mode.
    "PSD": ((12, ">H"), (14, ">I"), (18, ">I"), (22, ">H"), (24, ">H"), (26, ">I")),
    # Where the pixels are; width, height, planes, bits, compression.
    "BMP": ((10, "<I"), (18, "<I"), (22, "<I"), (26, "<H"), (28, "<H"), (30, "<I")),
}
_BOXES = rb"meta|iloc|iinf|ispe|iprp|ipco|ipma|mdat|jp2h|ihdr|jp2c|jxl[cp]|\xff\x51"
_IN_BOXES = ((_BOXES, (-8, ">I"), (0, ">I"), (4, ">I"), (8, ">I")),)
_FOUND: dict[str, tuple[Any, ...]] = {
    # Height and width of each frame header; the lengths of all segments.
    "JPEG": (
        (rb"\xff[\xc0-\xc2]\0[\x0b\x11\x14]", (1, ">H"), (3, ">H")),
        (rb"\xff[\xc0-\xc4\xda-\xe2]", (0, ">H")),
    ),
    # The lengths of all chunks.
    "PNG": ((rb"IHDR|IDAT|PLTE|tRNS|acTL|fcTL|fdAT", (-8, ">I")),),
    "WEBP": ((rb"VP8X|VP8L|VP8 |ANMF|ALPH", (0, "<I"), (5, "<I"), (8, "<I"), (10, "<I")),),
    "GIF": ((rb",(?=.{4}\0\0|\0{4})", (0, "<H"), (2, "<H"), (4, "<H"), (6, "<H")),),
    # Lengths of boxes, and sizes of pictures.
    **dict.fromkeys(("AVIF", "HEIF", "JPEG2000", "JXL"), _IN_BOXES),
}


def _fields(data: bytes, form: str) -> Iterator[tuple[int, str]]:
    """Where a file's headers hold numbers, and how."""
    yield from _FIXED.get(form, ())
    for pattern, *places in _FOUND.get(form, ()):
        for found in re.finditer(pattern, data, re.DOTALL):
            yield from ((found.end() + at, layout) for at, layout in places)
    if form in ("TIFF", "RAW"):  # type, count and value of each entry of the first directory
        at = int.from_bytes(data[4:8], "little")
        for entry in range(int.from_bytes(data[at : at + 2], "little") % 64):
            start = at + 2 + 12 * entry
            if start + 12 <= len(data):
                yield from ((start + 2, "<H"), (start + 4, "<I"), (start + 8, "<I"))


def right_checksums(png: bytearray) -> None:
    """Set the checksums of all of a PNG's chunks that can be found."""
    at = 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        png[end : end + 4] = zlib.crc32(png[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


if __name__ == "__main__":
    main()
