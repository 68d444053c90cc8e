"""Photographs in all that people have them in: each decodes to what the photograph is."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from simdist.errors import ImageError
from simdist.images.decoding import decode, open_image
from simdist.images.limits import Pixels
from tests.bad_inputs import encode, png16
from tests.profiles import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    Primaries,
    cmyk_profile,
    rgb_profile,
)
from tests.raw_files import dng, psd, tiff

# As simdist.images asks for; pytest sets its own filters over it.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")


@pytest.fixture(scope="module", autouse=True)
def _writers() -> None:
    """Have Pillow write what it reads."""
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()


@pytest.fixture(scope="module")
def picture(photo: Path) -> Image.Image:
    return Image.open(photo).convert("RGB")


@pytest.fixture(scope="module")
def grey(picture: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(picture.convert("L"))


def square(picture: Image.Image) -> Pixels:
    return decode(encode(picture, "PNG"), size=96)


def apart(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other).mean())


FORMATS: dict[str, tuple[Callable[[Image.Image], bytes], float]] = {
    "AVIF": (lambda picture: encode(picture, "AVIF", quality=90), 2),
    "HEIC": (lambda picture: encode(picture, "HEIF", quality=90), 2),
    "JPEG XL": (lambda picture: encode(picture, "JXL"), 2),
    "JPEG XL, lossless": (lambda picture: encode(picture, "JXL", lossless=True), 0),
    "JPEG XL, boxes": (lambda picture: encode(picture, "JXL", use_container=True), 2),
    "JPEG 2000": (lambda picture: encode(picture, "JPEG2000"), 0),
    "JPEG 2000, bare": (lambda picture: encode(picture, "JPEG2000", no_jp2=True), 0),
    "PSD": (psd, 0),
    "DNG": (dng, 2),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_photograph_is_the_same_in_each_format(picture: Image.Image, name: str) -> None:
    make, most = FORMATS[name]
    assert apart(decode(make(picture), size=96), square(picture)) <= most
    assert open_image(make(picture)).size == picture.size


@pytest.mark.parametrize("form", ["AVIF", "HEIF", "JXL", "JPEG2000"])
def test_transparency_is_laid_over_white_in_every_format(form: str) -> None:
    half = Image.new("RGBA", (64, 64), (200, 0, 0, 255))
    half.paste((0, 0, 0, 0), (32, 0, 64, 64))
    pixels = np.asarray(open_image(encode(half, form)))
    assert np.abs(pixels[10, 10].astype(int) - (200, 0, 0)).max() < 12
    assert pixels[10, 60].min() > 243


def test_a_raw_photograph_needs_its_extra(
    picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"install simdist\[raw\]"):
        decode(dng(picture), size=96)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<?xml version='1.0'?>\n<!-- by hand -->\n<svg xmlns='x'/>", "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42", "a film"),
        (b"\xff\x0a" + b"\xff" * 40, "pixels|damaged"),
    ],
)
def test_what_is_not_read_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data, size=96)


DEEP: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {
    "8 bits in 16": lambda grey: tiff(grey.astype(np.uint16)),
    "10 bits in 16": lambda grey: tiff(grey.astype(np.uint16) << 2),
    "12 bits in 16": lambda grey: tiff(grey.astype(np.uint16) << 4),
    "14 bits in 16": lambda grey: tiff(grey.astype(np.uint16) << 6),
    "16 bits": lambda grey: tiff(grey.astype(np.uint16) << 8),
    "16 bits, PNG": lambda grey: encode(Image.fromarray(grey.astype(np.uint16) << 4), "PNG"),
    "big-endian": lambda grey: encode(
        Image.frombytes(
            "I;16B", grey.shape[::-1], (grey.astype(np.uint16) << 2).astype(">u2").tobytes()
        ),
        "TIFF",
    ),
    "white is zero": lambda grey: tiff(0xFFFF - grey.astype(np.uint16) * 257, photometric=0),
    "signed": lambda grey: tiff(grey.astype(np.int16) * 8 - 1000),
    "32 bits": lambda grey: tiff(grey.astype(np.uint32) << 24),
    "float up to 1": lambda grey: tiff(grey.astype(np.float32) / 255),
    "float up to 255": lambda grey: tiff(grey.astype(np.float32)),
    "float of any size": lambda grey: tiff(grey.astype(np.float32) * 1e30),
    "floats, some of them none": lambda grey: tiff(_with_holes(grey)),
    "JPEG 2000": lambda grey: encode(Image.fromarray(grey.astype(np.uint16) << 4), "JPEG2000"),
    "JPEG XL": lambda grey: encode(
        Image.fromarray(grey.astype(np.uint16) << 4), "JXL", lossless=True
    ),
}


def _big_endian(values: NDArray[np.uint16]) -> Image.Image:
    return Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())


def _with_holes(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = grey.astype(np.float32) / np.float32(255)
    values[0, :2] = np.nan, np.inf
    return values


@pytest.mark.parametrize("name", DEEP)
def test_grey_is_scaled_by_what_it_holds(grey: NDArray[np.uint8], name: str) -> None:
    found = decode(DEEP[name](grey), size=96)
    assert apart(found, square(Image.fromarray(grey))) < 6


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_colour_is_scaled_by_what_it_holds(picture: Image.Image, form: str, bits: int) -> None:
    values = np.asarray(picture).astype(np.uint16) * np.uint16(1 << (bits - 8))
    data = png16(values) if form == "PNG" else tiff(values)
    assert apart(decode(data, size=96), square(picture)) < 0.5


@pytest.mark.parametrize("factor", [1, 257])
def test_a_palette_is_scaled_by_what_it_holds(picture: Image.Image, factor: int) -> None:
    """Some writers put 8 bits where TIFF has 16."""
    palette = picture.quantize(200)
    colours = [factor * value for value in (palette.getpalette() or [])]
    colours += [0] * (768 - len(colours))
    data = tiff(np.asarray(palette), colours=[v for c in range(3) for v in colours[c::3]])
    assert apart(decode(data, size=96), square(palette.convert("RGB"))) < 0.5


def test_none_but_numbers_that_are_none_is_refused() -> None:
    with pytest.raises(ImageError, match="none of its pixels"):
        decode(tiff(np.full((8, 8), np.nan, np.float32)), size=8)


PROFILES: dict[str, tuple[Primaries, float]] = {
    "Display P3": (DISPLAY_P3, 2.2),
    "Adobe RGB": (ADOBE_RGB, 2.2),
    "ProPhoto": (PROPHOTO, 1.8),
}


def _in_profile(picture: Image.Image, profile: bytes) -> Image.Image:
    changed = ImageCms.profileToProfile(
        picture,
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        outputMode="RGB",
    )
    assert changed is not None
    return changed


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_applied(picture: Image.Image, name: str, form: str) -> None:
    profile = rgb_profile(*PROFILES[name])
    changed = _in_profile(picture, profile)
    lossy = 0 if form in ("PNG", "TIFF") else 3
    data = encode(changed, form, quality=95, icc_profile=profile)
    assert apart(decode(data, size=96), square(picture)) < 1.5 + lossy
    assert apart(np.asarray(open_image(data)), np.asarray(picture)) < 3 + lossy


def test_a_profile_of_jpeg_2000_is_applied(picture: Image.Image) -> None:
    profile = rgb_profile(PROPHOTO, 1.8)
    data = encode(_in_profile(picture, profile), "JPEG2000")
    at = data.index(b"colr") - 4
    old = int.from_bytes(data[at : at + 4], "big")
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    head = data.index(b"jp2h") - 4
    size = int.from_bytes(data[head : head + 4], "big") + len(box) - old
    data = data[:head] + struct.pack(">I", size) + data[head + 4 : at] + box + data[at + old :]
    assert apart(decode(data, size=96), square(picture)) < 2


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_inks_have_the_colours_that_their_profile_says(form: str) -> None:
    inks = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    plain = np.asarray(open_image(encode(inks, form)))[0, 0].astype(int)
    profiled = np.asarray(open_image(encode(inks, form, icc_profile=cmyk_profile())))[0, 0]
    assert np.abs(plain - (0, 255, 255)).max() < 4
    assert np.abs(profiled.astype(int) - (76, 255, 255)).max() < 12


@pytest.mark.parametrize("profile", [b"no profile", b"\0" * 200, rgb_profile(PROPHOTO, 1.8)[:300]])
def test_a_damaged_profile_is_passed_over(picture: Image.Image, profile: bytes) -> None:
    data = encode(picture, "PNG", icc_profile=profile)
    assert np.array_equal(decode(data, size=96), square(picture))


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_the_orientation_is_applied_in_every_format(picture: Image.Image, form: str) -> None:
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    data = encode(stored, form, exif=_exif(6), quality=95)
    assert apart(decode(data, size=96), square(picture)) < 3
    assert open_image(data).size == picture.size


def test_an_orientation_in_xmp_or_as_text_is_applied(picture: Image.Image) -> None:
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/>'
    written = encode(stored, "JPEG", xmp=xmp + b"</rdf:RDF></x:xmpmeta>", quality=95)
    assert apart(decode(written, size=96), square(picture)) < 3
    text = b"Exif\0\0MM\0*" + struct.pack(">IHHHI4sI", 8, 1, 0x0112, 2, 2, b"6\0\0\0", 0)
    written = encode(stored, "JPEG", exif=text, quality=95)
    assert apart(decode(written, size=96), square(picture)) < 3


def test_photographs_of_two_hundred_megapixels_are_decoded(picture: Image.Image) -> None:
    large = encode(picture.resize((16_320, 12_240)), "JPEG", quality=60)
    assert apart(decode(large, size=96), square(picture)) < 3
    # In a service, too, and at the largest size that is allowed.
    assert apart(decode(large, size=96, max_pixels=25_000_000), square(picture)) < 3
    assert open_image(large).size == (8160, 6120)


def test_a_large_progressive_jpeg_is_decoded_as_far_as_memory_allows() -> None:
    """Its decoder holds all of it, twice the bytes in full colour."""
    plain = Image.new("RGB", (12_000, 9_000))
    assert decode(encode(plain, "JPEG", progressive=True), size=8).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="pixels"):
        decode(encode(plain, "JPEG", progressive=True, subsampling=0), size=8)


def test_a_jpeg_without_its_last_bytes_is_whole(picture: Image.Image) -> None:
    for options in ({}, {"progressive": True}):
        data = encode(picture, "JPEG", **options)
        assert np.array_equal(decode(data[:-2], size=96), decode(data, size=96))
        assert open_image(data[:-2]).size == picture.size
    inks = encode(picture.convert("CMYK"), "JPEG")
    assert np.array_equal(decode(inks[:-2], size=96), decode(inks, size=96))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"])
def test_what_is_cut_says_how_much_is_there(picture: Image.Image, form: str) -> None:
    data = encode(picture, form)
    with pytest.raises(ImageError, match=r"truncated: only [3-6]\d?% of the image|truncated"):
        decode(data[: len(data) // 2], size=96)


def _chunked(png: bytes, chunk: bytes) -> bytes:
    return png[:33] + struct.pack(">I", len(chunk) - 4) + chunk + b"\0\0\0\0" + png[33:]


@pytest.mark.parametrize("chunk", [b"tEXtno checksum", b"zTXt" + b"\0" * 9, b"iCCPx\0\0nothing"])
def test_a_png_with_damage_that_does_not_show_is_decoded(
    picture: Image.Image, chunk: bytes
) -> None:
    data = _chunked(encode(picture, "PNG"), chunk)
    assert np.array_equal(decode(data, size=96), square(picture))


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_that_is_not_blank_is_taken(picture: Image.Image, form: str) -> None:
    blank = Image.new("RGB", picture.size, "black")
    several: dict[str, Any] = {"save_all": True, "append_images": [blank, picture.copy(), blank]}
    data = encode(blank, form, **several)
    assert apart(decode(data, size=96), square(picture)) < 12
    dark = decode(encode(blank, form, save_all=True, append_images=[blank]), size=96)
    assert dark.max() < 4


def _claims(form: str) -> Iterator[bytes]:
    """Files of few bytes that say they have very many pixels."""
    small = Image.new("RGB", (64, 64))
    match form:
        case "JXL":
            yield b"\xff\x0a" + (((1 << 30) - 1) << 3 | 3 << 1).to_bytes(6, "little") + bytes(40)
        case "HEIF" | "AVIF":
            data = encode(small, form)
            at = data.index(b"ispe") + 8
            yield data[:at] + struct.pack(">II", 30_000, 30_000) + data[at + 8 :]
        case "PSD":
            yield struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 30_000, 30_000, 8, 3) + bytes(30)
        case "JPEG2000":
            data = encode(small, form, no_jp2=True)
            yield data[:8] + struct.pack(">II", 30_000, 30_000) + data[16:]


@pytest.mark.parametrize("form", ["JXL", "HEIF", "AVIF", "PSD", "JPEG2000"])
def test_what_says_it_is_huge_is_refused(form: str) -> None:
    for data in _claims(form):
        with pytest.raises(ImageError, match=r"pixels|damaged|known format"):
            decode(data, size=96)


def test_one_photograph_is_the_same_with_and_without_its_film(
    photo: Path, picture: Image.Image
) -> None:
    """Motion photographs: a film lies behind the still, or beside it."""
    film = struct.pack(">I", 24) + b"ftypmp42\0\0\0\0mp42isom" + b"\xff\xda\xff\xd9" * 5000
    still = partial(decode, size=96)
    assert np.array_equal(still(photo.read_bytes() + film), still(photo.read_bytes()))
    heic = encode(picture, "HEIF")
    box = struct.pack(">I", 8 + len(film)) + b"mpvd" + film
    assert np.array_equal(still(heic + box), still(heic))
