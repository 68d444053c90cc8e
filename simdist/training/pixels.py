"""Images decoded once, in a file, for the many times that a training looks at them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simdist.embedding import Preprocessing
from simdist.errors import ImageError, OutputError, SourceError, UsageError
from simdist.images.limits import Pixels
from simdist.sources import Access, ImageRef, read_many

PIXELS, BAD = "pixels.npy", "bad.json"


@dataclass(frozen=True)
class DecodedImages:
    """Decoded images on the disk.

    Attributes:
        pixels: (n, size, size, 3) uint8, as they were given; mapped into memory.
        bad: why an image could not be read or decoded, by its index; its pixels are black.
    """

    pixels: Pixels
    bad: dict[int, str]


def decoded(
    refs: Sequence[ImageRef],
    folder: Path,
    *,
    preprocessing: Preprocessing,
    access: Access,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> DecodedImages:
    """Decode images into a file of the folder, unless they are there from an earlier call.

    Raises:
        OutputError: the file cannot be written.
    """
    path, notes = folder / PIXELS, folder / BAD
    if not notes.is_file():
        try:
            bad = _decode(refs, path, preprocessing, access, on_progress)
            # Written last, whole or not at all: it says that the pixels are complete.
            partial = notes.with_suffix(".partial")
            partial.write_text(json.dumps(bad))
            partial.replace(notes)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    bad = {int(index): reason for index, reason in json.loads(notes.read_text()).items()}
    return DecodedImages(np.load(path, mmap_mode="r"), bad)


def _decode(
    refs: Sequence[ImageRef],
    path: Path,
    preprocessing: Preprocessing,
    access: Access,
    on_progress: Callable[[int, int], None],
) -> dict[int, str]:
    bad: dict[int, str] = {}
    shape = (len(refs), preprocessing.size, preprocessing.size, 3)
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for index, outcome in enumerate(read_many(refs, access)):
        try:
            if isinstance(outcome, Exception):
                raise outcome
            pixels[index] = preprocessing.pixels(outcome)
        except (ImageError, SourceError, UsageError) as error:
            bad[index] = str(error)
        on_progress(index + 1, len(refs))
    pixels.flush()
    return bad
