"""Bytes -> checked RGB pixels."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, _imaging
from PIL.JpegImagePlugin import JpegImageFile

from simdist.errors import ImageError
from simdist.images.jpeg import check_scans, square
from simdist.images.limits import FORMATS, MAX_PIXELS, Pixels, check_size
from simdist.images.resizing import Resize

_BAND = 256  # lines
_SIGNATURE = 16  # bytes that say what a file is

_UPRIGHT = {  # EXIF orientation -> what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow remarks on odd but readable files; what matters is checked below, and a line for each of
# a million images helps nobody. Set once, here: `warnings.catch_warnings` is not for threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


def _silence_libtiff() -> None:
    """Keep libtiff from writing to stderr: what it has to say, Pillow raises as well."""
    library = ctypes.CDLL(_imaging.__file__)  # also finds the names of what it is linked to
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with contextlib.suppress(AttributeError):  # a Pillow that hides or lacks libtiff
            getattr(library, handler)(None)


_silence_libtiff()


def decode(
    data: bytes, *, size: int, resize: Resize = Resize.squash, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Decode an image to the square that a backbone takes.

    The first frame is taken, the EXIF orientation applied, transparency laid over white, 16-bit
    values scaled to 8 bits, and the picture, or the part that `resize` says, resized with an
    antialiased bilinear filter.

    Args:
        data: the file's bytes, at most `limits.MAX_BYTES`.
        size: width and height of the result, in pixels.
        resize: what becomes of a picture that is not square.
        max_pixels: of the picture.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageError: empty, too large, of a format not in `FORMATS`, or damaged.
    """
    with _errors():
        picture = _open(data, max_pixels)
        pixels = None
        if isinstance(picture, JpegImageFile) and picture.mode in ("L", "RGB"):
            pixels = square(data, *picture.size, size=size, resize=resize)
        if pixels is None:
            whole = _load(picture, at_least=size)
            box = resize.box(*whole.size)
            # Cut first: given a box, Pillow's filter would read the pixels around it as well.
            part = whole if box == (0, 0, *whole.size) else whole.crop(box)
            pixels = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
        # Turned when it is small: a large picture would be in memory twice.
        turn = _upright(picture)
        return pixels if turn is None else np.asarray(Image.fromarray(pixels).transpose(turn))


def open_image(data: bytes, *, at_least: int | None = None) -> Image.Image:
    """Check and decode an image to an upright 8-bit RGB picture.

    With `at_least`, a JPEG may be decoded at a reduced scale, neither side below twice that
    many pixels: the resize that follows loses nothing by it.

    Raises:
        ImageError: as `decode`.
    """
    with _errors():
        picture = _open(data)
        whole = _load(picture, at_least=at_least)
        turn = _upright(picture)
        return whole if turn is None else whole.transpose(turn)


def begins_as_image(data: bytes) -> bool:
    """Whether bytes begin as a file of one of the formats does; a BMP takes only two for that."""
    Image.init()
    return any(Image.OPEN[name][1](data[:_SIGNATURE]) for name in FORMATS)  # type: ignore[misc]


def is_image(data: bytes) -> bool:
    """Whether bytes have the header of an image; what follows may be damaged."""
    try:
        with _errors():
            _open(data)
    except ImageError:
        return False
    return True


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    # Pillow's decoders raise nearly anything on damaged input; all of it means the same here.
    except Exception as error:
        raise ImageError(f"damaged image: {_first_line(error)}") from error


def _open(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Check what can be checked before a pixel is decoded."""
    if not data:
        raise ImageError("the file is empty")
    check_size(len(data))
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError(f"not an image of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"more than {MAX_PIXELS:,} pixels") from error
    width, height = picture.size
    if not width * height:
        raise ImageError("it has no pixels")
    if width * height > max_pixels:
        raise ImageError(f"{width} x {height} is more than {max_pixels:,} pixels")
    if isinstance(picture, JpegImageFile):
        check_scans(data)
    return picture


def _upright(picture: Image.Image) -> Image.Transpose | None:
    """What is still to be done once it is decoded: Pillow turns a TIFF by itself."""
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return None  # EXIF that cannot be read: the pixels are good, and so is their order
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None


def _load(picture: Image.Image, *, at_least: int | None) -> Image.Image:
    """Decode to 8-bit RGB."""
    if at_least is not None:
        picture.draft("RGB", (2 * at_least, 2 * at_least))
    picture.load()
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    # In bands: an RGBA picture of the largest size would be in memory four times otherwise.
    rgb = Image.new("RGB", picture.size)
    for top in range(0, picture.height, _BAND):
        bottom = min(top + _BAND, picture.height)
        rgb.paste(_to_rgb(picture.crop((0, top, picture.width, bottom))), (0, top))
    return rgb


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ImageError("integer pixels outside 0 to 65,535")
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ImageError("floating-point pixels are not supported")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
