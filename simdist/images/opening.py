"""Bytes -> a picture whose header is checked, and none of whose pixels is decoded yet."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from simdist.errors import ImageError
from simdist.images.formats import known_format
from simdist.images.jpeg import check_scans, held
from simdist.images.jpegxl import open_jxl
from simdist.images.limits import COSTLY, JPEG_TIMES, MAX_PIXELS, check_pixels, check_size
from simdist.images.mending import mended, share
from simdist.images.raw import is_raw, preview

_UPRIGHT: dict[object, Image.Transpose] = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# With what Pillow's plugins say that a file is none of theirs.
_NOT_THEIRS = (SyntaxError, IndexError, TypeError, struct.error)


@dataclass(frozen=True)
class ImageFile:
    """A file that is open.

    Attributes:
        picture: with its size and what else its header says.
        data: its bytes; of a RAW photograph, those of its preview.
        form: one of `formats.FORMATS`.
        max_pixels: to decode.
        size: bytes of the whole file.
        raw: whether this is the preview of a RAW photograph.
    """

    picture: Image.Image
    data: bytes
    form: str
    max_pixels: int
    size: int
    raw: bool = False

    @property
    def format(self) -> str:
        """The format's name, as people write it."""
        return "RAW" if self.raw else self.form


def open_file(data: bytes, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Check what can be checked before a pixel is decoded; JPEG XL alone is decoded, then.

    Raises:
        ImageError: empty, too large, of a format not in `FORMATS`, or damaged. What the decoders
            raise may be anything.
    """
    if not data:
        raise ImageError("the file is empty")
    check_size(len(data))
    form = known_format(data)
    if form == "RAW" or (form == "TIFF" and is_raw(data)):
        found = preview(data)
        if isinstance(found, bytes):
            check_size(len(found))
            inner = known_format(found)
            picture = _opened(found, inner)
            _check(picture, found, inner, max_pixels)
            return ImageFile(picture, found, inner, max_pixels, len(data), raw=True)
        if found is not None:
            return ImageFile(found, data, "RAW", max_pixels, len(data), raw=True)
    if form == "JXL":
        picture = open_jxl(data, max_pixels=max_pixels // COSTLY[form])
    else:
        picture = _opened(data, form)
        _check(picture, data, form, max_pixels)
        if form == "JPEG2000" and (profile := _profile_in_jp2(data)):
            picture.info["icc_profile"] = profile
    return ImageFile(picture, data, form, max_pixels, len(data))


def upright(file: ImageFile) -> Image.Transpose | None:
    """What is still to be done once it is decoded: some decoders turn the picture themselves."""
    if file.form == "JXL":
        return None
    if file.form == "HEIF":
        # Turned already, if the file says so where it should, beside its EXIF.
        turned = b"irot" in file.data or b"imir" in file.data
        return None if turned else _UPRIGHT.get(file.picture.info.get("original_orientation"))
    try:
        orientation = file.picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None  # EXIF that cannot be read: the pixels are good, and so is their order
    if isinstance(orientation, str) and orientation.strip("\0 ").isdecimal():
        orientation = int(orientation.strip("\0 "))
    return _UPRIGHT.get(orientation)


def _opened(data: bytes, form: str) -> Image.Image:
    """Not `Image.open`, whose limit is that of what a header says."""
    Image.init()
    opener = Image.OPEN[form][0]
    try:
        return opener(io.BytesIO(data), "")
    except (*_NOT_THEIRS, ValueError, OSError) as error:
        bare = mended(data, form) if form == "PNG" else None
        if bare and len(bare) < len(data):
            return _opened(bare, form)
        part = share(data, form, None)
        if part is not None:
            raise ImageError(f"truncated: only {part:.0%} of the image is there") from error
        raise ImageError(
            f"it begins as {form} and goes on otherwise: it is cut, or "
            "not an image of a known format"
        ) from error


def _check(picture: Image.Image, data: bytes, form: str, max_pixels: int) -> None:
    max_pixels //= COSTLY.get(form, 1)
    if isinstance(picture, JpegImageFile):
        check_scans(data)
        if picture.width * picture.height > max_pixels:
            # As many numbers as a picture in full colour has, which is as large as is allowed.
            share_held = max(held(data) / 3, 1 / JPEG_TIMES)
            max_pixels = int(max_pixels / share_held)
    check_pixels(*picture.size, max_pixels)


def _profile_in_jp2(data: bytes) -> bytes:
    """The profile of a JPEG 2000, which Pillow passes over (ISO/IEC 15444-1, I.5.3.3)."""
    header = data[: data.find(b"jp2c")] if b"jp2c" in data else b""
    at = header.find(b"colr\2")
    size = int.from_bytes(header[at - 4 : at], "big") if at >= 4 else 0
    return header[at + 7 : at - 4 + size]
