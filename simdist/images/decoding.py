"""Bytes -> checked RGB pixels."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, _imaging
from PIL.JpegImagePlugin import JpegImageFile

from simdist.errors import ImageError
from simdist.images.colours import to_srgb
from simdist.images.depth import Scale, is_deep, low_bytes, numbers_of
from simdist.images.facts import facts
from simdist.images.frames import extrema, first_shown
from simdist.images.jpeg import is_whole, scale_for, square
from simdist.images.limits import MAX_PIXELS, Pixels, check_pixels
from simdist.images.mending import mended, share
from simdist.images.opening import ImageFile, open_file, upright
from simdist.images.resizing import Resize, Scaling

_BAND = 256  # lines
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_COLOUR_MAP = 320
_DARK = 127  # the brightest of a picture that may leave bits unused

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
    data: bytes,
    *,
    size: int,
    resize: Resize = Resize.squash,
    scaling: Scaling | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Pixels:
    """Decode an image to the square that a backbone takes.

    The first frame that is not blank is taken, the EXIF orientation and the colour profile applied,
    transparency laid over white, values of more than 8 bits scaled by what they hold, and the
    picture, or the part that `resize` says, resized with an antialiased bilinear filter; or as
    `scaling` says.

    Args:
        data: the file's bytes, at most `limits.MAX_BYTES`.
        size: width and height of the result, in pixels.
        resize: what becomes of a picture that is not square.
        scaling: how it is resized, and its middle cut out, if that is not done as above.
        max_pixels: to decode.

    Returns:
        (size, size, 3) uint8, RGB.

    Raises:
        ImageError: empty, too large, of a format not in `FORMATS`, cut, or damaged.
    """
    with _errors():
        return _square(open_file(data, max_pixels), size, resize, scaling)


def decode_with_facts(
    data: bytes,
    *,
    size: int,
    resize: Resize = Resize.squash,
    scaling: Scaling | None = None,
    gps: bool = False,
) -> tuple[Pixels, dict[str, Any]]:
    """As `decode`, and what the file says of its picture, see `facts`.

    Raises:
        ImageError: as `decode`.
    """
    with _errors():
        file = open_file(data)
        # First: decoding may reduce a picture, and close its file.
        said = facts(file, gps=gps)
        return _square(file, size, resize, scaling), said


def facts_of(data: bytes) -> dict[str, Any]:
    """What a file says of its picture, see `facts`.

    Raises:
        ImageError: as `decode`.
    """
    with _errors():
        return facts(open_file(data))


def _square(file: ImageFile, size: int, resize: Resize, scaling: Scaling | None) -> Pixels:
    picture, pixels = file.picture, None
    if isinstance(picture, JpegImageFile) and picture.mode in ("L", "RGB"):
        fast = partial(
            square, size=size, resize=resize, scaling=scaling, max_pixels=file.max_pixels
        )
        pixels = fast(file.data, *picture.size)
        if pixels is None and (whole_file := mended(file.data, "JPEG")):
            pixels = fast(whole_file, *picture.size)
    if pixels is None and scaling:
        pixels = scaling.cut(_load(file, at_least=scaling.side), resize, size)
    elif pixels is None:
        whole = _load(file, at_least=size)
        box = resize.box(*whole.size)
        # Cut first: given a box, Pillow's filter would read the pixels around it as well.
        part = whole if box == (0, 0, *whole.size) else whole.crop(box)
        pixels = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR))
    # Turned when it is small: a large picture would be in memory twice. So are its colours.
    turn = upright(file)
    if turn is None and "icc_profile" not in picture.info:
        return pixels
    small = to_srgb(Image.fromarray(pixels), picture.info.get("icc_profile"))
    return np.asarray(small if turn is None else small.transpose(turn))


def open_image(
    data: bytes, *, at_least: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Check and decode an image to an upright 8-bit RGB picture.

    With `at_least`, a JPEG may be decoded at a reduced scale, neither side below twice that
    many pixels: the resize that follows loses nothing by it. So may one of too many pixels.

    Raises:
        ImageError: as `decode`.
    """
    with _errors():
        file = open_file(data, max_pixels)
        whole = to_srgb(_load(file, at_least=at_least), file.picture.info.get("icc_profile"))
        turn = upright(file)
        return whole if turn is None else whole.transpose(turn)


def is_image(data: bytes) -> bool:
    """Whether bytes have the header of an image; what follows may be damaged."""
    try:
        with _errors():
            open_file(data)
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


def _load(file: ImageFile, *, at_least: int | None) -> Image.Image:
    """Decode to 8-bit RGB, the first frame that is not blank."""
    picture = file.picture
    if isinstance(picture, JpegImageFile):
        width, height = picture.size
        scale = scale_for(
            width,
            height,
            at_least=at_least or max(width, height),
            max_pixels=file.max_pixels,
        )
        picture.draft(None, (width // scale, height // scale))
        check_pixels(*picture.size, file.max_pixels)
    try:
        return _lightened(file, first_shown(picture, _rgb, max_pixels=file.max_pixels))
    except (OSError, SyntaxError, ValueError) as error:
        return _load_mended(file, error)


def _load_mended(file: ImageFile, error: Exception) -> Image.Image:
    """The picture of a file without what hinders.

    Raises:
        ImageError: there is not all of it.
    """
    whole = mended(file.data, file.form)
    # Pillow would take any end of a JPEG for good.
    if whole and (file.form != "JPEG" or is_whole(whole)):
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            again = open_file(whole, file.max_pixels)
            again.picture.draft(None, file.picture.size)
            return _rgb(again.picture)
    part = share(file.data, file.form, file.picture)
    if part is not None:
        raise ImageError(f"truncated: only {part:.0%} of the image is there") from error
    raise error


def _lightened(file: ImageFile, rgb: Image.Image) -> Image.Image:
    """A picture of 16 bits a channel that uses fewer of them, scaled by those that it uses."""
    small = rgb.width * rgb.height <= file.max_pixels // 2  # it is in memory three times
    if file.form not in ("PNG", "TIFF") or not small or _brightest(rgb) > _DARK:
        return rgb
    low = open_file(file.data, file.max_pixels).picture
    if not low_bytes(low) or low.size != rgb.size:
        return rgb
    low = low.convert("RGB")
    bits = 8 + _brightest(rgb).bit_length()
    lightened = Image.new("RGB", rgb.size)
    for (top, upper), (_, lower) in zip(_bands(rgb), _bands(low), strict=True):
        values = np.asarray(upper).astype(np.uint16) << 8 | np.asarray(lower)
        lightened.paste(Image.fromarray((values >> (bits - 8)).astype(np.uint8)), (0, top))
    return lightened


def _brightest(rgb: Image.Image) -> int:
    return int(max(high for _, high in extrema(rgb)))


def _rgb(picture: Image.Image) -> Image.Image:
    picture.load()
    _widen_palette(picture)
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    convert = _converter(picture)
    # In bands: an RGBA picture of the largest size would be in memory four times otherwise.
    rgb = Image.new("RGB", picture.size)
    for top, band in _bands(picture):
        rgb.paste(convert(band), (0, top))
    return rgb


def _widen_palette(picture: Image.Image) -> None:
    """Some write a TIFF's palette with 8 bits, where there are 16, of which Pillow takes the upper.

    libtiff does this as well.
    """
    colours = getattr(picture, "tag_v2", {}).get(_COLOUR_MAP)
    if picture.mode == "P" and colours and max(colours) <= 0xFF:
        third = len(colours) // 3
        thirds = (colours[start : start + third] for start in (0, third, 2 * third))
        picture.putpalette([value for colour in zip(*thirds, strict=True) for value in colour])


def _bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    for top in range(0, picture.height, _BAND):
        bottom = min(top + _BAND, picture.height)
        yield top, picture.crop((0, top, picture.width, bottom))


def _converter(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes RGB of a part of a picture."""
    if is_deep(picture):
        scale = Scale.of(numbers_of(band, picture) for _, band in _bands(picture))
        inverted = getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO

        def grey(band: Image.Image) -> Image.Image:
            values = scale.apply(numbers_of(band, picture))
            return Image.fromarray(255 - values if inverted else values).convert("RGB")

        return grey
    if picture.mode == "CMYK":
        profile = picture.info.get("icc_profile")
        return lambda band: to_srgb(band, profile).convert("RGB")
    if picture.has_transparency_data:

        def over_white(band: Image.Image) -> Image.Image:
            layer = band.convert("RGBA")
            white = Image.new("RGBA", layer.size, "white")
            return Image.alpha_composite(white, layer).convert("RGB")

        return over_white
    return lambda band: band.convert("RGB")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else type(error).__name__
