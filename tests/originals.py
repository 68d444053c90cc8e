"""Real photographs in all that a format has: what `tests.mutations` damages."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_inputs import encode, png16
from tests.profiles import PROPHOTO, cmyk_profile, rgb_profile
from tests.raw_files import dng, psd, tiff

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"


def originals(form: str, dice: random.Random) -> dict[str, bytes]:
    """Files of a format, by the variant of it."""
    photos = dice.sample(sorted(PHOTOS.rglob("*.jpg")), 5)
    frames = [Image.open(path).convert("RGB").resize((200, 150)) for path in photos]
    first, second, *_ = frames
    seen = first.copy()
    seen.putalpha(second.convert("L"))
    several = {"save_all": True, "append_images": frames[2:]}
    grey16 = Image.fromarray(np.asarray(first.convert("L")).astype(np.uint16) * 257)

    def save(picture: Image.Image, **options: object) -> bytes:
        return encode(picture, form, exif=_exif(), **options)

    if form in ("HEIF", "JXL"):
        import pillow_heif
        import pillow_jxl  # noqa: F401  (Pillow learns to write it)

        pillow_heif.register_heif_opener()

    makers: dict[str, dict[str, Callable[[], bytes]]] = {
        "JPEG": {
            "small": lambda: save(first),
            "as it is": photos[0].read_bytes,
            "progressive": lambda: save(second, progressive=True),
            "4:4:4, restarts": lambda: save(first, subsampling=0, restart_marker_rows=1),
            "grey": lambda: save(first.convert("L")),
            "cmyk": lambda: save(first.convert("CMYK")),
            "progressive cmyk": lambda: save(second.convert("CMYK"), progressive=True),
            "reduced": lambda: save(first.resize((1_000, 1_000)), progressive=True),
            "several": lambda: encode(first, "MPO", **several),
            "profile": lambda: save(first, icc_profile=rgb_profile(PROPHOTO, 1.8)),
            "cmyk profile": lambda: save(first.convert("CMYK"), icc_profile=cmyk_profile()),
        },
        "PNG": {
            "rgb": lambda: save(first),
            "rgba": lambda: save(seen),
            "grey and alpha": lambda: save(seen.convert("LA")),
            "palette": lambda: save(first.quantize(200), transparency=bytes(range(200))),
            "1 bit": lambda: save(first.convert("1")),
            "16-bit grey": lambda: save(grey16),
            "16-bit rgb": lambda: png16(np.asarray(first).astype(np.uint16) * 257),
            "animated": lambda: save(first, **several),
        },
        "WEBP": {
            "lossy": lambda: save(first),
            "lossless": lambda: save(second, lossless=True),
            "alpha": lambda: save(seen),
            "lossless alpha": lambda: save(seen, lossless=True, exact=True),
            "animated": lambda: save(first, **several),
        },
        "GIF": {
            "still": lambda: save(first),
            "not interlaced": lambda: save(second, interlace=False),
            "see-through": lambda: save(first.quantize(64), transparency=3),
            "animated": lambda: save(first, **several),
        },
        "TIFF": {
            "raw": lambda: save(first),
            "cmyk": lambda: save(first.convert("CMYK")),
            "rgba": lambda: save(seen, compression="tiff_lzw"),
            "lzw": lambda: save(second, compression="tiff_lzw"),
            "deflate": lambda: save(first, compression="tiff_adobe_deflate"),
            "jpeg": lambda: save(first, compression="jpeg"),
            "packbits": lambda: save(second, compression="packbits"),
            "fax": lambda: save(first.convert("1"), compression="group4"),
            "palette": lambda: save(first.quantize(64), compression="tiff_lzw"),
            "16-bit grey": lambda: save(grey16),
            "several": lambda: save(first, compression="tiff_lzw", **several),
            "10-bit rgb": lambda: tiff(np.asarray(first).astype(np.uint16) * 4),
            "float": lambda: tiff(np.asarray(first.convert("L")).astype(np.float32)),
            "32 bits": lambda: tiff(np.asarray(first.convert("L")).astype(np.uint32) << 20),
        },
        "BMP": {
            "rgb": lambda: encode(first, "BMP"),
            "palette": lambda: encode(first.quantize(64), "BMP"),
            "1 bit": lambda: encode(first.convert("1"), "BMP"),
        },
        "AVIF": {
            "rgb": lambda: save(first),
            "4:4:4": lambda: save(second, subsampling="4:4:4", quality=90),
            "alpha": lambda: save(seen),
            "grey": lambda: save(first.convert("L")),
            "animated": lambda: encode(first, "AVIF", **several),
        },
        "HEIF": {
            "rgb": lambda: save(first),
            "alpha": lambda: save(seen),
            "grey": lambda: save(first.convert("L")),
            "several": lambda: save(first, **several),
        },
        "JXL": {
            "lossy": lambda: encode(first, "JXL"),
            "lossless": lambda: encode(second, "JXL", lossless=True),
            "alpha": lambda: encode(seen, "JXL"),
            "grey": lambda: encode(first.convert("L"), "JXL"),
            "16-bit grey": lambda: encode(grey16, "JXL", lossless=True),
            "boxes": lambda: encode(first, "JXL", use_container=True, exif=_exif().tobytes()),
        },
        "JPEG2000": {
            "rgb": lambda: encode(first, "JPEG2000"),
            "lossy": lambda: encode(second, "JPEG2000", irreversible=True, quality_layers=[20]),
            "alpha": lambda: encode(seen, "JPEG2000"),
            "bare": lambda: encode(first, "JPEG2000", no_jp2=True),
            "16-bit grey": lambda: encode(grey16, "JPEG2000"),
            "tiles": lambda: encode(first, "JPEG2000", tile_size=(64, 64)),
        },
        "PSD": {"rgb": lambda: psd(first)},
        "RAW": {"dng": lambda: dng(first), "other": lambda: dng(second)},
    }
    return {name: make() for name, make in makers[form].items()}


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010F] = "simdist"  # make
    return exif
