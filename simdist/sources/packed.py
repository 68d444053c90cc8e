"""Files that are packed as a whole (gzip, bzip2, xz), read forward as they would be unpacked."""

from __future__ import annotations

import bz2
import lzma
import weakref
import zlib
from typing import Any, BinaryIO

from simdist.errors import SourceError

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}
_NOT_READ = {b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z", b"Rar!": "RAR"}
MAGIC = 6  # bytes that say it
# A dictionary of xz may ask for gigabytes.
_MEMORY = 256 * 1024 * 1024
_READ = 256 * 1024
# What can be read again: shards are read by several threads, in about the order of the members.
BACK = 32 * 1024 * 1024
# So many times as large may it become, and so many bytes in any case.
MAX_RATIO = 300
MIN_LIMIT = 1 << 30


def packing_of(begin: bytes) -> str | None:
    """How a file is packed that begins so; None if it is not.

    Raises:
        SourceError: in a way that is not read.
    """
    for magic, name in _NOT_READ.items():
        if begin.startswith(magic):
            raise SourceError(f"packed with {name}, which is not read: unpack it")
    return next((name for magic, name in _MAGIC.items() if begin.startswith(magic)), None)


class Unpacked:
    """A packed file as if it were not: read forward, and a little back.

    Raises:
        SourceError: it is damaged, or expands without end.
    """

    def __init__(self, file: BinaryIO, packing: str, size: int) -> None:
        """Nothing is read yet; `size` is the packed file's."""
        self._file, self._packing = file, packing
        weakref.finalize(self, file.close)
        self._limit = max(MIN_LIMIT, size * MAX_RATIO)
        self._unpacker: Any = None
        self._input = b""
        # What was unpacked last, from which byte on, and where the next read begins.
        self._window, self._start, self._at = bytearray(), 0, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        if offset < self._start:
            raise SourceError("a packed archive is read forward")
        while offset > self._start + len(self._window) and self._unpack():
            pass
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            at = self._at - self._start
            part = bytes(self._window[at : at + size])
            if not part and not self._unpack():
                break
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._file.close()

    def _unpack(self) -> bool:
        """Have more in the window; returns whether there was more."""
        data = self._next(_READ)
        self._window += data
        if len(self._window) > 2 * BACK:
            self._start += len(self._window) - BACK
            del self._window[:-BACK]
        if self._start > self._limit:
            raise SourceError(f"it expands to more than {self._limit:,} bytes")
        return bool(data)

    def _next(self, size: int) -> bytes:
        try:
            while True:
                if self._unpacker is None:
                    self._input = self._input or self._file.read(_READ)
                    if not self._input.strip(b"\0"):  # some are filled up with zeros
                        return b""
                    self._unpacker = self._new()
                data: bytes = self._unpacker.decompress(self._input, size)
                self._input = getattr(self._unpacker, "unconsumed_tail", b"")
                if self._unpacker.eof:
                    self._input, self._unpacker = self._unpacker.unused_data, None
                if data:
                    return data
                if self._unpacker is not None and not self._input:
                    self._input = self._file.read(_READ)
                    if not self._input:
                        raise SourceError("damaged: it is packed, and cut")
        except (zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError) as error:
            raise SourceError(f"damaged: it cannot be unpacked ({error})") from error

    def _new(self) -> Any:
        if self._packing == "gzip":
            return zlib.decompressobj(31)
        if self._packing == "bzip2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
