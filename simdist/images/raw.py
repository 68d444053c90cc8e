"""RAW photographs of cameras, by the preview that the camera has put beside the data."""

from __future__ import annotations

import io
import struct

from PIL import Image

from simdist.errors import ImageError

_MAKE, _SUBIFDS, _DNG = 271, 330, 50706
_COMPRESSION, _PHOTOMETRIC = 259, 262
# Makers' own, and those of pixels behind a colour filter: what TIFF itself does not have.
_COMPRESSIONS = {32767, 32769, 32770, 34713, 65535}
_PHOTOMETRICS = {32803, 34892}


def is_raw(data: bytes) -> bool:
    """Whether a TIFF is a camera's RAW file: those are TIFFs whose first picture may be tiny."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        [at] = struct.unpack_from(order + "I", data, 4)
        [count] = struct.unpack_from(order + "H", data, at)
        tags = dict(struct.unpack_from(order + "H6xH", data, at + 2 + 12 * i) for i in range(count))
    except struct.error:
        return False
    return (
        _DNG in tags
        or (_MAKE in tags and _SUBIFDS in tags)
        or tags.get(_COMPRESSION) in _COMPRESSIONS
        or tags.get(_PHOTOMETRIC) in _PHOTOMETRICS
    )


def preview(data: bytes) -> bytes | Image.Image | None:
    """The largest preview: a JPEG, or pixels; None where this is no RAW file after all.

    Raises:
        ImageError: it has none, or what reads it is not installed.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError(
            "a RAW photograph: to index such by their previews, install simdist[raw]"
        ) from error
    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            found = raw.extract_thumb()
    except rawpy.LibRawFileUnsupportedError:
        return None
    except rawpy.LibRawError as error:
        raise ImageError(f"damaged image: a RAW photograph without a preview ({error})") from error
    if isinstance(found.data, bytes):
        return found.data
    return Image.fromarray(found.data)
