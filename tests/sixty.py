"""Sixty files, one of each format and oddity, made from the example photographs.

python -m tests.sixty FOLDER
"""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tests.bad_inputs import encode, png16, with_broken_exif
from tests.profiles import ADOBE_RGB, DISPLAY_P3, PROPHOTO, Primaries, rgb_profile
from tests.raw_files import dng, psd, tiff

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"

# A photograph as it is, and decoded -> a file.
Maker = Callable[[bytes, Image.Image], bytes]


@dataclass(frozen=True)
class Case:
    """A file, the photograph it was made from, and what is to become of it.

    Attributes:
        becomes: 'indexed'; 'failed', with a part of its reason; 'passed over', with its kind.
        alike: whether the format holds enough of the photograph that it is its nearest neighbour.
    """

    name: str
    photo: Path
    becomes: str = "indexed"
    reason: str = ""
    alike: bool = True


def _as(form: str, **options: Any) -> Maker:
    return lambda _, picture: encode(picture, form, **options)


def _turned(form: str, **options: Any) -> Maker:
    exif = Image.Exif()
    exif[0x0112] = 6
    said = options or {"exif": exif}
    return lambda _, picture: encode(picture.transpose(Image.Transpose.ROTATE_90), form, **said)


def _in_profile(form: str, primaries: Primaries, gamma: float) -> Maker:
    profile = rgb_profile(primaries, gamma)

    def make(_: bytes, picture: Image.Image) -> bytes:
        changed = ImageCms.profileToProfile(
            picture,
            ImageCms.createProfile("sRGB"),
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            outputMode="RGB",
        )
        assert changed is not None
        return encode(changed, form, icc_profile=profile)

    return make


def _grey(make: Callable[[NDArray[np.uint8]], bytes]) -> Maker:
    return lambda _, picture: make(np.asarray(picture.convert("L")))


def _several(form: str, *, blank_first: bool) -> Maker:
    def make(_: bytes, picture: Image.Image) -> bytes:
        blank = Image.new("RGB", picture.size, "white")
        frames = [blank, picture.copy()] if blank_first else [picture.copy(), blank]
        return encode(frames[0], form, save_all=True, append_images=frames[1:])

    return make


def _narrow_palette(_: bytes, picture: Image.Image) -> bytes:
    palette = picture.quantize(250)
    colours = [*(palette.getpalette() or [])]
    colours += [0] * (768 - len(colours))
    return tiff(np.asarray(palette), colours=[v for c in range(3) for v in colours[c::3]])


def _with_film(jpeg: bytes, _: Image.Image) -> bytes:
    return jpeg + struct.pack(">I", 24) + b"ftypmp42\0\0\0\0mp42isom" + b"\xff\xda" * 5000


def _with_broken_text(_: bytes, picture: Image.Image) -> bytes:
    png = encode(picture, "PNG")
    return png[:33] + struct.pack(">I", 9) + b"zTXt" + b"\0" * 13 + png[33:]


def _with_odd_bytes(jpeg: bytes, _: Image.Image) -> bytes:
    table = jpeg.index(b"\xff\xdb")
    return jpeg[:table] + bytes(14) + jpeg[table:]


def _see_through(_: bytes, picture: Image.Image) -> bytes:
    layer = picture.convert("RGBA")
    layer.paste((0, 0, 0, 0), (0, 0, 30, 30))
    return encode(layer, "PNG")


def _heic(_: bytes, picture: Image.Image) -> bytes:
    return encode(picture, "HEIF", quality=90)


def _as_it_is(jpeg: bytes, _: Image.Image) -> bytes:
    return jpeg


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

INDEXED: dict[str, Maker] = {
    **dict.fromkeys(("a.jpg", "B.JPEG", "c.jpe", "d.jfif", "e.insp", "IMG_6", "g.HEIC"), _as_it_is),
    "heic-called.jpg": _heic,
    "a.heic": _heic,
    "several.heif": _several("HEIF", blank_first=False),
    "turned.heic": _turned("HEIF"),
    "a.png": _as("PNG"),
    "a.webp": _as("WEBP", quality=90),
    "lossless.webp": _as("WEBP", lossless=True),
    "a.gif": _as("GIF"),
    "a.tif": _as("TIFF"),
    "lzw.tiff": _as("TIFF", compression="tiff_lzw"),
    "a.bmp": _as("BMP"),
    "a.avif": _as("AVIF", quality=90),
    "a.jxl": _as("JXL"),
    "boxes.jxl": _as("JXL", use_container=True),
    "a.jp2": _as("JPEG2000"),
    "a.j2k": _as("JPEG2000", no_jp2=True),
    "a.psd": lambda _, picture: psd(picture),
    "a.dng": lambda _, picture: dng(picture),
    "progressive.jpg": _as("JPEG", progressive=True, quality=90),
    "grey.jpg": lambda _, picture: encode(picture.convert("L"), "JPEG", quality=95),
    "cmyk.jpg": lambda _, picture: encode(picture.convert("CMYK"), "JPEG", quality=95),
    "cmyk.tif": lambda _, picture: encode(picture.convert("CMYK"), "TIFF"),
    "turned.jpg": _turned("JPEG"),
    "turned-by-xmp.jpg": _turned("JPEG", xmp=_XMP),
    "turned.png": _turned("PNG"),
    "display-p3.jpg": _in_profile("JPEG", DISPLAY_P3, 2.2),
    "adobe-rgb.tif": _in_profile("TIFF", ADOBE_RGB, 2.2),
    "prophoto.png": _in_profile("PNG", PROPHOTO, 1.8),
    "palette.png": lambda _, picture: encode(picture.quantize(250), "PNG"),
    "narrow-palette.tif": _narrow_palette,
    "16-bit-colour.png": lambda _, picture: png16(np.asarray(picture).astype(np.uint16) * 257),
    "10-bit-colour.tif": lambda _, picture: tiff(np.asarray(picture).astype(np.uint16) << 2),
    "16-bit-grey.png": _grey(lambda grey: encode(Image.fromarray(grey * np.uint16(257)), "PNG")),
    "12-bit-grey.tif": _grey(lambda grey: tiff(grey.astype(np.uint16) << 4)),
    "float.tif": _grey(lambda grey: tiff(grey.astype(np.float32) / 255)),
    "32-bit.tif": _grey(lambda grey: tiff(grey.astype(np.uint32) << 20)),
    "white-is-zero.tif": _grey(lambda grey: tiff(grey.astype(np.uint16) ^ 0xFF, photometric=0)),
    "1-bit.png": lambda _, picture: encode(picture.convert("1"), "PNG"),
    "blank-first.gif": _several("GIF", blank_first=True),
    "blank-first.webp": _several("WEBP", blank_first=True),
    "pages.tif": _several("TIFF", blank_first=False),
    "motion.jpg": _with_film,
    "no-end.jpg": lambda jpeg, picture: encode(picture, "JPEG", quality=95)[:-2],
    "broken-text.png": _with_broken_text,
    "broken-exif.jpg": lambda jpeg, _: with_broken_exif(jpeg),
    "odd-bytes.jpg": _with_odd_bytes,
    "see-through.png": _see_through,
    "200-megapixels.jpg": lambda _, picture: encode(picture.resize((16_320, 12_240)), "JPEG"),
}
# Black and white alone: too little of the photograph is left.
NOT_ALIKE = {"1-bit.png"}
OTHERS: dict[str, tuple[Maker, str, str]] = {
    "cut.jpg": (lambda jpeg, _: jpeg[: len(jpeg) // 2], "failed", "truncated: only"),
    "empty.jpg": (lambda *_: b"", "failed", "the file is empty"),
    "drawing.svg": (lambda *_: b"<svg xmlns='x'/>", "passed over", ".svg"),
    "a.mov": (_as_it_is, "passed over", ".mov"),
    "._a.jpg": (_as_it_is, "passed over", "hidden"),
}


def write_sixty(folder: Path) -> list[Case]:
    """Write the files into a folder, each from a photograph of its own."""
    import pillow_heif
    import pillow_jxl  # noqa: F401  (Pillow learns to write it)

    pillow_heif.register_heif_opener()
    folder.mkdir(parents=True, exist_ok=True)
    photos = sorted(PHOTOS.glob("*/*.jpg"))
    # From all categories.
    photos = [photos[i * 7919 % len(photos)] for i in range(len(photos))]
    cases = [
        Case(name, photo, alike=name not in NOT_ALIKE)
        for name, photo in zip(INDEXED, photos, strict=False)
    ]
    left = photos[len(cases) :]
    cases += [
        Case(name, photo, *OTHERS[name][1:]) for name, photo in zip(OTHERS, left, strict=False)
    ]
    for case in cases:
        jpeg = case.photo.read_bytes()
        make = INDEXED[case.name] if case.name in INDEXED else OTHERS[case.name][0]
        (folder / case.name).write_bytes(make(jpeg, Image.open(case.photo).convert("RGB")))
    return cases


if __name__ == "__main__":
    for one in write_sixty(Path(sys.argv[1])):
        print(f"{one.name:24} {one.becomes:12} {one.reason:24} {one.photo.relative_to(PHOTOS)}")
