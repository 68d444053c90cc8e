"""What a file says of its picture: sides, format, when and with which camera it was taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import ExifTags, Image

from simdist.images.opening import ImageFile, upright

# Turned by a quarter, width and height change places.
_QUARTERS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}
_NAMES = {"JXL": "JPEG XL", "JPEG2000": "JPEG 2000", "HEIF": "HEIC", "WEBP": "WebP"}
_MAX_CAMERA = 100  # characters
_OFFSET = re.compile(r"[+-]\d\d:\d\d")
_TAKEN = (  # when, and its offset to UTC
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
)


def facts(file: ImageFile, *, gps: bool = False) -> dict[str, Any]:
    """Metadata that a file gives of itself.

    Args:
        file: not decoded yet.
        gps: say also where it was taken.

    Returns:
        `width` and `height` as it is seen, in pixels; `bytes`; `format`; where they are known
        `date` (ISO 8601) and `camera`, and with `gps` `latitude` and `longitude` in degrees.
    """
    width, height = file.picture.size
    # Pillow says of a TIFF what becomes of it.
    if file.form != "TIFF" and upright(file) in _QUARTERS:
        width, height = height, width
    form = _NAMES.get(file.format, file.format)
    found = {"width": width, "height": height, "bytes": file.size, "format": form}
    if "exif" not in file.picture.info and file.form != "TIFF":
        return found
    try:
        exif = file.picture.getexif()
        found |= _taken(exif.get_ifd(ExifTags.IFD.Exif)) | _camera(exif)
        if gps:
            found |= _place(exif.get_ifd(ExifTags.IFD.GPSInfo))
    # EXIF is written by everybody, and Pillow raises nearly anything.
    except Exception:
        return found
    return found


def _taken(tags: Mapping[int, Any]) -> dict[str, str]:
    for date, offset in _TAKEN:
        try:
            taken = datetime.strptime(_text(tags.get(date)), "%Y:%m:%d %H:%M:%S").isoformat()
        except ValueError:  # such as a clock that was never set: 0000:00:00
            continue
        zone = _text(tags.get(offset))
        return {"date": taken + (zone if _OFFSET.fullmatch(zone) else "")}
    return {}


def _camera(tags: Mapping[int, Any]) -> dict[str, str]:
    make, model = _text(tags.get(ExifTags.Base.Make)), _text(tags.get(ExifTags.Base.Model))
    # Most name themselves once more: Canon, Canon EOS R5.
    first = make.split(" ")[0].lower()
    name = model if model.lower().startswith(first) else f"{make} {model}"
    return {"camera": name.strip()[:_MAX_CAMERA]} if name.strip() else {}


def _place(tags: Mapping[int, Any]) -> dict[str, float]:
    names = ExifTags.GPS
    latitude = _degrees(tags.get(names.GPSLatitude), tags.get(names.GPSLatitudeRef), "S")
    longitude = _degrees(tags.get(names.GPSLongitude), tags.get(names.GPSLongitudeRef), "W")
    if latitude is None or longitude is None:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _degrees(parts: Any, side: object, negative: str) -> float | None:
    if not isinstance(parts, tuple) or len(parts) != 3:
        return None
    most = 90 if negative == "S" else 180
    degrees = sum((float(part) / float(60**i) for i, part in enumerate(parts)), 0.0)
    if not math.isfinite(degrees) or not 0 <= degrees <= most:
        return None
    return round(-degrees if _text(side).upper() == negative else degrees, 6)


def _text(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return ""
    return "".join(c for c in text.partition("\0")[0] if c.isprintable()).strip()
