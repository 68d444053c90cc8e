"""The files that an ingest must survive, each with what is to become of it."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Case:
    """A file, and what is to become of it.

    Attributes:
        path: its name as the listing finds it.
        reason: None where it is to be indexed, else a part of the failure's reason.
    """

    path: Path
    reason: str | None

    @property
    def expected(self) -> str:
        return "indexed" if self.reason is None else "failed"


def write_bad_inputs(folder: Path, photo: Path) -> list[Case]:
    """Write every case into `folder`, which is made; the good ones are made from `photo`."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.open(photo).convert("RGB")
    return [
        *_write_files(folder, photo.read_bytes(), picture),
        *_write_names(folder, photo.read_bytes()),
        *_write_entries(folder, photo),
    ]


def _write_files(folder: Path, jpeg: bytes, picture: Image.Image) -> Iterator[Case]:
    rotated = Image.Exif()
    rotated[_EXIF_ORIENTATION] = 6
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    frames = [Image.new("RGB", picture.size, colour) for colour in ("blue", "green")]
    files = {
        "plain.jpg": (jpeg, None),
        "text.jpg": (b"these are not the pixels you are looking for\n" * 20, "not an image"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "empty.jpg": (b"", "empty"),
        "bomb.png": (bomb(20_000, 20_000), "pixels"),
        "bomb-below-pillows-limit.png": (bomb(9_500, 10_000), "pixels"),
        "16-bit-grey.png": (encode(Image.fromarray(grey), "PNG"), None),
        "16-bit-colour.png": (png16(np.asarray(picture).astype(np.uint16) * 257), None),
        "cmyk.jpg": (encode(picture.convert("CMYK"), "JPEG"), None),
        "grey.jpg": (encode(picture.convert("L"), "JPEG"), None),
        "animated.gif": (encode(picture, "GIF", save_all=True, append_images=frames), None),
        "palette.png": (encode(picture.quantize(32), "PNG", transparency=0), None),
        "rotated.jpg": (encode(picture, "JPEG", exif=rotated), None),
        "broken-exif.jpg": (with_broken_exif(jpeg), None),
    }
    for name, (data, reason) in files.items():
        path = folder / name
        path.write_bytes(data)
        yield Case(path, reason)


def _write_names(folder: Path, jpeg: bytes) -> Iterator[Case]:
    for name in odd_names():
        path = folder / name
        path.write_bytes(jpeg)
        yield Case(path, None)


def odd_names() -> list[str]:
    """File names with spaces, quotes, newlines, wildcards, bytes that are not UTF-8."""
    names = ["with spaces.jpg", 'it\'s "quoted".jpg', "new\nline.jpg", "100%41 #1?.jpg", "*.jpg"]
    return [*names, "ünïcödé.jpg", "SHOUTED.JPG", os.fsdecode(b"caf\xe9 \xff.jpg")]


def _write_entries(folder: Path, photo: Path) -> Iterator[Case]:
    """Entries whose trouble is not in their bytes."""
    forbidden = folder / "forbidden.jpg"
    forbidden.write_bytes(photo.read_bytes())
    forbidden.chmod(0)
    # No mode keeps root out.
    yield Case(forbidden, None if os.geteuid() == 0 else "Permission denied")

    unreadable = folder / "unreadable.jpg"
    unreadable.symlink_to("/proc/self/mem")  # its first page: an I/O error for everybody
    yield Case(unreadable, "cannot read")

    circle = folder / "circle.jpg"
    circle.symlink_to(circle.name)
    yield Case(circle, "Too many levels of symbolic links")

    dangling = folder / "dangling.jpg"
    dangling.symlink_to("nowhere.jpg")
    yield Case(dangling, "No such file")

    pipe = folder / "pipe.jpg"
    os.mkfifo(pipe)
    yield Case(pipe, "not a regular file")

    inside = folder / "folder.jpg" / "inside.jpg"
    inside.parent.mkdir()
    inside.write_bytes(photo.read_bytes())
    yield Case(inside, None)

    (folder / "loop").symlink_to(".")  # lists nothing of its own


def encode(picture: Image.Image, form: str, **options: object) -> bytes:
    """An image's file, as bytes."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png16(pixels: NDArray[np.uint16]) -> bytes:
    """A PNG of 16-bit RGB, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    lines = pixels.astype(">u2").reshape(height, -1)
    data = b"".join(b"\0" + line.tobytes() for line in lines)
    return _png(width, height, depth=16, colour=2, data=zlib.compress(data, 1))


def bomb(width: int, height: int, *, colour: int = 0) -> bytes:
    """A PNG of few bytes and many pixels, all of them there.

    Args:
        colour: PNG's number for grey (0), grey and alpha (4) or RGBA (6); grey has one bit a
            pixel, the others 8 bits a channel.
    """
    depth, bits = {0: (1, 1), 4: (8, 16), 6: (8, 32)}[colour]
    packer = zlib.compressobj(1)
    line = bytes(1 + -(-width * bits // 8))
    data = b"".join(packer.compress(line * 100) for _ in range(height // 100))
    data += packer.compress(line * (height % 100)) + packer.flush()
    return _png(width, height, depth=depth, colour=colour, data=data)


def _png(width: int, height: int, *, depth: int, colour: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def with_broken_exif(jpeg: bytes) -> bytes:
    """A good JPEG with EXIF whose directory lies far behind its end."""
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\1" * 16
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + jpeg[2:]
