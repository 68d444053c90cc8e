"""Small pictures of images, and the folder in which they are kept, in bounded room."""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from simdist.images.decoding import open_image

# Pixels of the longer side: of a tile of a grid, on a screen of twice as many pixels, and of a
# whole screen.
SIDE, PREVIEW_SIDE = 256, 2048
QUALITY = 80
MEDIA_TYPE = "image/webp"
# How long the encoder tries, 0 to 6: twice as long would save some percent.
_METHOD = 2
# Part of the room that may be written before it is measured anew: others may write, too.
_MEASURED = 16
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
# Seconds after which a picture that is looked at counts as used once more.
_USED = 3600


def thumbnail(data: bytes) -> bytes:
    """An image's bytes -> a WebP whose longer side has at most `SIDE` pixels.

    Raises:
        ImageError: not an acceptable image.
    """
    return _smaller(data, SIDE)


def preview(data: bytes) -> bytes:
    """As `thumbnail`, for a whole screen: `PREVIEW_SIDE` pixels.

    Raises:
        ImageError: as `thumbnail`.
    """
    return _smaller(data, PREVIEW_SIDE)


def _smaller(data: bytes, side: int) -> bytes:
    picture = open_image(data, at_least=side)
    picture.thumbnail((side, side))
    out = io.BytesIO()
    # Nothing of the original's metadata: it may say where and when a photograph was taken.
    picture.info.clear()
    picture.save(out, "WEBP", quality=QUALITY, method=_METHOD)
    return out.getvalue()


def content_key(uri: str, vector: bytes) -> str:
    """By which the pictures of an image are kept: another one where its content was replaced.

    Args:
        vector: its embedding's bytes: an image whose content was replaced looks otherwise.
    """
    return hashlib.blake2b(vector + uri.encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class _Kept:
    path: str
    size: int
    used: float


class Shelf:
    """Pictures in a folder, those used last, which several processes may share.

    What cannot be written is not kept: a full or a read-only disk stops nobody.
    """

    def __init__(self, folder: Path, *, room: int) -> None:
        """Nothing is written or measured yet.

        Args:
            room: bytes that they may take, some more for a moment.
        """
        self._folder = folder
        self._room = room
        self._lock = threading.Lock()
        # As if it had to be measured: who knows what is there.
        self._written = room

    def get(self, key: str, size: int) -> bytes | None:
        """A picture that was kept, by `content_key` and its longer side's pixels."""
        path = self._path(key, size)
        with suppress(OSError):
            with path.open("rb") as file:
                data = file.read()
                used = os.fstat(file.fileno()).st_mtime
                if time.time() - used > _USED:
                    os.utime(path)
            return data
        return None

    def keep(self, key: str, size: int, data: bytes) -> None:
        """Keep a picture; those used longest ago give way."""
        path = self._path(key, size)
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            # Whoever reads it meanwhile reads all or nothing.
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                with os.fdopen(os.open(part, _NEW, 0o600), "wb") as file:
                    file.write(data)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            self._make_room(len(data))

    def _path(self, key: str, size: int) -> Path:
        return self._folder / key[:2] / f"{key}-{size}.webp"

    def _make_room(self, more: int) -> None:
        with self._lock:
            self._written += more
            if self._written <= self._room // _MEASURED:
                return
            self._written = 0
            kept = sorted(self._all(), key=lambda one: one.used)
            surplus = sum(one.size for one in kept) - self._room
            for one in kept:
                if surplus <= 0:
                    break
                with suppress(OSError):
                    Path(one.path).unlink()
                surplus -= one.size

    def _all(self) -> Iterator[_Kept]:
        with suppress(OSError), os.scandir(self._folder) as folders:
            for folder in folders:
                with suppress(OSError), os.scandir(folder.path) as files:
                    for file in files:
                        with suppress(OSError):
                            found = file.stat(follow_symlinks=False)
                            yield _Kept(file.path, found.st_size, found.st_mtime)
