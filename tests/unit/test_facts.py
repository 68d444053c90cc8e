from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from simdist.images.decoding import decode, decode_with_facts
from tests.bad_inputs import encode, with_broken_exif
from tests.raw_files import dng

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


def facts(data: bytes, *, gps: bool = False) -> dict[str, Any]:
    return decode_with_facts(data, size=32, gps=gps)[1]


def exif(**changed: Any) -> Image.Exif:
    said: dict[str, Any] = {
        "Make": "Canon",
        "Model": "Canon EOS R5\0",
        "taken": "2024:05:06 07:08:09",
        "offset": "+02:00",
        "place": {1: "S", 2: (33.0, 51.0, 30.0), 3: "E", 4: (151.0, 12.0, 36.0)},
    } | changed
    made = Image.Exif()
    made[ExifTags.Base.Make], made[ExifTags.Base.Model] = said["Make"], said["Model"]
    inner = made.get_ifd(ExifTags.IFD.Exif)
    inner[ExifTags.Base.DateTimeOriginal] = said["taken"]
    inner[ExifTags.Base.OffsetTimeOriginal] = said["offset"]
    made.get_ifd(ExifTags.IFD.GPSInfo).update(said["place"])
    if "orientation" in said:
        made[ExifTags.Base.Orientation] = said["orientation"]
    return made


WITH_EXIF: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda picture: encode(picture, "JPEG", exif=exif()),
    "PNG": lambda picture: encode(picture, "PNG", exif=exif()),
    "WebP": lambda picture: encode(picture, "WEBP", exif=exif()),
    "TIFF": lambda picture: encode(picture, "TIFF", exif=exif().tobytes()),
    "AVIF": lambda picture: encode(picture, "AVIF", exif=exif()),
    "HEIC": lambda picture: encode(picture, "HEIF", exif=exif()),
    "JPEG XL": lambda picture: encode(picture, "JXL", use_container=True, exif=exif().tobytes()),
}


@pytest.mark.parametrize("form", WITH_EXIF)
def test_a_file_says_what_when_and_with_what(picture: Image.Image, form: str) -> None:
    data = WITH_EXIF[form](picture)
    expected = {
        "width": picture.width,
        "height": picture.height,
        "bytes": len(data),
        "format": form,
        "date": "2024-05-06T07:08:09+02:00",
        "camera": "Canon EOS R5",
    }
    assert facts(data) == expected
    place = {"latitude": -33.858333, "longitude": 151.21}
    assert facts(data, gps=True) == expected | place


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG2000"])
def test_formats_without_exif_say_what_they_are(picture: Image.Image, form: str) -> None:
    data = encode(picture, form)
    name = "JPEG 2000" if form == "JPEG2000" else form
    sides = {"width": picture.width, "height": picture.height}
    assert facts(data) == sides | {"bytes": len(data), "format": name}


def test_the_bytes_of_a_raw_photograph_are_those_of_the_file(picture: Image.Image) -> None:
    data = dng(picture)
    assert (facts(data)["bytes"], facts(data)["format"]) == (len(data), "RAW")


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG"])
def test_sides_are_those_of_what_is_seen(picture: Image.Image, form: str) -> None:
    large = picture.resize((4000, 2000))
    turned = facts(encode(large, form, exif=exif(orientation=6)))
    assert (turned["width"], turned["height"]) == (2000, 4000)
    upside_down = facts(encode(large, form, exif=exif(orientation=3)))
    assert (upside_down["width"], upside_down["height"]) == (4000, 2000)


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"taken": "0000:00:00 00:00:00"}, "date"),
        ({"taken": "yesterday"}, "date"),
        ({"Make": "", "Model": "  "}, "camera"),
        ({"place": {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (1.0, 2.0, 3.0)}}, "latitude"),
        ({"place": {1: "N", 2: (1.0, 0.0)}}, "latitude"),
    ],
)
def test_what_is_not_known_is_not_said(
    picture: Image.Image, changed: dict[str, Any], missing: str
) -> None:
    found = facts(encode(picture, "JPEG", exif=exif(**changed)), gps=True)
    assert missing not in found
    assert found["width"] == picture.width


def test_an_offset_that_is_none_is_left_out(picture: Image.Image) -> None:
    found = facts(encode(picture, "JPEG", exif=exif(offset="summer")))
    assert found["date"] == "2024-05-06T07:08:09"


def test_names_are_short_and_can_be_printed(picture: Image.Image) -> None:
    found = facts(encode(picture, "JPEG", exif=exif(Make="M\x07e" * 10, Model="x" * 500)))
    assert found["camera"].isprintable()
    assert len(found["camera"]) == 100


def test_broken_exif_costs_neither_picture_nor_sides(photo: Path) -> None:
    data = with_broken_exif(photo.read_bytes())
    pixels, found = decode_with_facts(data, size=32)
    assert (pixels == decode(data, size=32)).all()
    assert {*found} == {"width", "height", "bytes", "format"}


def test_exif_of_countless_entries_is_soon_read(picture: Image.Image) -> None:
    entries = struct.pack(">HHII", 0x010F, 2, 4, 0x61626300) * 5000
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 5000) + entries + bytes(4)
    assert facts(encode(picture, "JPEG", exif=block))["width"] == picture.width
