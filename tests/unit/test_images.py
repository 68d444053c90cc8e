from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageSequence

from simdist.errors import ImageError
from simdist.images import limits
from simdist.images.decoding import decode, open_image
from simdist.images.limits import Pixels
from simdist.images.resizing import Resize
from tests.bad_inputs import bomb, encode, png16, with_broken_exif

# As simdist.images asks for; pytest sets its own filters over it.
pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")

LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
}
LOSSY: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "GIF": {},
    "MPO": {"quality": 95, "subsampling": 0},
}
ALL_FORMATS = LOSSLESS | LOSSY


@pytest.fixture(scope="module")
def picture(photo: Path) -> Image.Image:
    return Image.open(photo).convert("RGB")


def difference(
    one: NDArray[np.uint8] | Image.Image, other: NDArray[np.uint8] | Image.Image
) -> float:
    """Mean absolute difference of two pictures of one size."""
    first, second = np.asarray(one), np.asarray(other)
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second.astype(int)).mean())


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats_keep_every_pixel(picture: Image.Image, form: str) -> None:
    data = encode(picture, form, **LOSSLESS[form])
    assert difference(open_image(data), picture) == 0


@pytest.mark.parametrize("form", ALL_FORMATS)
def test_every_format_decodes_to_the_same_square(picture: Image.Image, form: str) -> None:
    pixels = decode(encode(picture, form, **ALL_FORMATS[form]), size=224)
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    assert difference(pixels, picture.resize((224, 224), Image.Resampling.BILINEAR)) < 4


@pytest.mark.parametrize("size", [1, 96, 299])
def test_the_square_is_of_the_size_asked_for(photo: Path, size: int) -> None:
    assert decode(photo.read_bytes(), size=size).shape == (size, size, 3)


@pytest.mark.parametrize(
    ("form", "mode", "order"),
    [("PNG", "I;16", "<"), ("TIFF", "I;16", "<"), ("TIFF", "I;16B", ">")],
)
def test_16_bit_grey_is_scaled_not_clipped(form: str, mode: str, order: str) -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    source = Image.frombytes(mode, (256, 256), values.astype(f"{order}u2").tobytes())
    pixels = np.asarray(open_image(encode(source, form)))
    assert np.array_equal(pixels, np.repeat((values >> 8)[..., None], 3, axis=2))


def test_16_bit_colour_is_scaled_not_clipped() -> None:
    values = np.random.default_rng(0).integers(0, 65_536, (30, 40, 3), dtype=np.uint16)
    assert np.array_equal(np.asarray(open_image(png16(values))), values >> 8)


@pytest.mark.parametrize("progressive", [False, True])
def test_cmyk_jpeg_has_the_right_colours(picture: Image.Image, progressive: bool) -> None:
    data = encode(picture.convert("CMYK"), "JPEG", quality=95, progressive=progressive)
    assert b"Adobe" in data[:64]  # whose ink values are stored inverted
    assert difference(open_image(data), picture) < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_three_equal_channels(picture: Image.Image, form: str, mode: str) -> None:
    grey = picture.convert(mode)
    pixels = np.asarray(open_image(encode(grey, form)))
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert difference(pixels[..., 0], grey.convert("L")) < 12


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_several_is_taken(form: str) -> None:
    red, blue = (Image.new("RGB", (32, 24), colour) for colour in ("red", "blue"))
    data = encode(red, form, save_all=True, append_images=[blue])
    assert sum(1 for _ in ImageSequence.Iterator(Image.open(io.BytesIO(data)))) == 2
    assert difference(open_image(data), red) < 2


def _half_seen(mode: str) -> tuple[Image.Image, dict[str, object]]:
    """Left column seen, in a dark colour; right column wholly transparent."""
    match mode:
        case "RGBA":
            alpha = Image.fromarray(np.array([[255, 0]], np.uint8))
            source = Image.new("RGB", (2, 1), (10, 20, 30))
            source.putalpha(alpha)
            return source, {}
        case "LA":
            source = Image.new("L", (2, 1), 20)
            source.putalpha(Image.fromarray(np.array([[255, 0]], np.uint8)))
            return source, {}
        case "P":
            source = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
            source.putpalette([10, 20, 30, 90, 80, 70])
            return source, {"transparency": 1}
        case "P, an alpha for each colour":
            return _half_seen("P")[0], {"transparency": b"\xff\x00"}
        case "RGB":
            pixels = np.array([[[10, 20, 30], [90, 80, 70]]], np.uint8)
            return Image.fromarray(pixels), {"transparency": (90, 80, 70)}
        case _:
            return Image.fromarray(np.array([[20, 70]], np.uint8)), {"transparency": 70}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "P, an alpha for each colour", "RGB", "L"])
def test_transparency_is_laid_over_white(mode: str) -> None:
    source, options = _half_seen(mode)
    seen, unseen = np.asarray(open_image(encode(source, "PNG", **options)))[0].tolist()
    assert seen == ([20, 20, 20] if mode.startswith("L") else [10, 20, 30])
    assert unseen == [255, 255, 255]


def test_half_transparency_is_mixed_with_white() -> None:
    data = encode(Image.new("RGBA", (1, 1), (0, 100, 200, 51)), "PNG")
    assert np.asarray(open_image(data))[0, 0].tolist() == [204, 224, 244]


# Orientation -> how the camera has stored the upright picture (EXIF 2.3, 4.6.4 A: where row 0 and
# column 0 of the stored picture lie in the seen one).
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(picture: Image.Image, form: str, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(picture))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, form, exif=exif, **ALL_FORMATS[form])
    assert difference(open_image(data), picture) < (2 if form == "JPEG" else 1e-9)
    upright = decode(encode(picture, "PNG"), size=64)
    # It is turned after the resize, which rounds between the columns and the lines.
    assert difference(decode(data, size=64), upright) < (2 if form == "JPEG" else 0.5)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_unknown_orientation_changes_nothing(picture: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert difference(open_image(encode(picture, "PNG", exif=exif)), picture) == 0


def test_broken_exif_does_not_cost_the_picture(photo: Path) -> None:
    data = photo.read_bytes()
    assert np.array_equal(decode(with_broken_exif(data), size=224), decode(data, size=224))


def test_a_large_jpeg_decodes_at_a_reduced_scale_without_a_visible_difference(
    picture: Image.Image,
) -> None:
    data = encode(picture.resize((2000, 1406), Image.Resampling.LANCZOS), "JPEG", quality=92)
    reduced = open_image(data, at_least=224)
    assert reduced.size == (1000, 703)
    full = open_image(data).resize((224, 224), Image.Resampling.BILINEAR)
    assert difference(decode(data, size=224), full) < 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sides", [(640, 450), (447, 2_000), (1_800, 900)])
def test_a_jpeg_is_resized_as_pillow_resizes_it(
    picture: Image.Image, sides: tuple[int, int], mode: str
) -> None:
    data = encode(picture.resize(sides).convert(mode), "JPEG", progressive=True)
    by_pillow = open_image(data, at_least=224).resize((224, 224), Image.Resampling.BILINEAR)
    assert np.abs(decode(data, size=224).astype(int) - np.asarray(by_pillow)).max() <= 2


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("shape", [(640, 200), (200, 640), (333, 333), (3000, 2000), (50, 400)])
def test_a_crop_is_the_largest_square_in_the_centre(
    picture: Image.Image, form: str, shape: tuple[int, int]
) -> None:
    whole = picture.resize(shape)
    side = min(shape)
    left, top = (shape[0] - side) // 2, (shape[1] - side) // 2
    centre = whole.crop((left, top, left + side, top + side))
    # So good that the blocks of the two files, which lie otherwise, do not show.
    options = {"quality": 99, "subsampling": 0} if form == "JPEG" else {}
    found = decode(encode(whole, form, **options), size=224, resize=Resize.crop)
    assert difference(found, decode(encode(centre, form, **options), size=224)) < 1
    squashed = decode(encode(whole, form, **options), size=224)
    same = shape[0] == shape[1]
    assert np.array_equal(found, squashed) == same


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("shape", [(400, 200), (200, 400)])
def test_a_crop_is_turned_as_the_picture_is(
    picture: Image.Image, form: str, shape: tuple[int, int]
) -> None:
    whole = picture.resize(shape)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = decode(encode(whole, form, exif=exif), size=64, resize=Resize.crop)
    upright = decode(
        encode(whole.transpose(Image.Transpose.ROTATE_270), "PNG"), size=64, resize=Resize.crop
    )
    assert difference(turned, upright) < (2 if form == "JPEG" else 0.5)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((400, 100), (200, 100)),
        ((100, 400), (100, 200)),
        ((333, 333), (333, 333)),
        ((3, 1), (2, 1)),
    ],
)
def test_a_trimmed_picture_is_cut_as_much_as_it_is_squeezed(
    picture: Image.Image, shape: tuple[int, int], kept: tuple[int, int]
) -> None:
    whole = picture.resize(shape)
    left, top = (shape[0] - kept[0]) // 2, (shape[1] - kept[1]) // 2
    middle = whole.crop((left, top, left + kept[0], top + kept[1]))
    found = decode(encode(whole, "PNG"), size=64, resize=Resize.trim)
    assert np.array_equal(found, decode(encode(middle, "PNG"), size=64))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("sides", [(640, 450), (447, 2_000), (1_801, 900)])
@pytest.mark.parametrize("resize", [Resize.trim, Resize.crop])
def test_a_jpeg_is_cropped_as_pillow_crops_it(
    picture: Image.Image, sides: tuple[int, int], mode: str, resize: Resize
) -> None:
    data = encode(picture.resize(sides).convert(mode), "JPEG", progressive=True)
    same = encode(open_image(data, at_least=224), "PNG")
    one, other = (decode(file, size=224, resize=resize) for file in (data, same))
    assert np.abs(one.astype(int) - other).max() <= 2


def test_a_jpeg_with_bytes_that_belong_nowhere_is_decoded(picture: Image.Image) -> None:
    """libjpeg-turbo warns of them, which counts as damage there; Pillow does not mind."""
    data = encode(picture, "JPEG")
    table = data.index(b"\xff\xdb")
    odd = data[:table] + bytes(14) + data[table:]
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(odd)
    assert difference(decode(odd, size=224), decode(data, size=224)) < 0.5


@pytest.mark.parametrize("size", [(4000, 300), (447, 447), (100, 100)])
def test_no_side_is_reduced_below_twice_the_square(size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size), "JPEG")
    assert open_image(data, at_least=224).size == size


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"not a picture at all", "not an image of a known format"),
        (b"%PDF-1.7", "not an image of a known format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
        (b"P6 1 1 255 abc", "not an image of a known format"),
        (b"\xff\xd8\xff", "not an image of a known format"),
        (encode(Image.new("RGB", (4, 4)), "ICO"), "not an image of a known format"),
    ],
)
def test_bytes_that_are_not_an_image_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(data, size=224)


@pytest.mark.parametrize("sides", [(20_000, 20_000), (9_500, 10_000), (8_001, 10_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(sides: tuple[int, int]) -> None:
    data = bomb(*sides)
    assert len(data) < 300_000
    with pytest.raises(ImageError, match="more than 80,000,000 pixels"):
        decode(data, size=224)


def test_the_largest_picture_allowed_is_decoded() -> None:
    assert decode(bomb(8_000, 10_000), size=8).shape == (8, 8, 3)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    data = photo.read_bytes()
    monkeypatch.setattr(limits, "MAX_BYTES", len(data))
    assert decode(data, size=8).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="at most"):
        decode(data + b"\0", size=8)


def _outcome(data: bytes) -> Pixels | None:
    """The pixels, or None for an ImageError; any other exception is the test's failure."""
    try:
        pixels = decode(data, size=224)
    except ImageError as error:
        assert str(error)
        return None
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    return pixels


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_file_is_refused(picture: Image.Image, form: str) -> None:
    data = encode(picture, form)
    for parts in range(1, 16):
        assert _outcome(data[: len(data) * parts // 17]) is None


def test_a_jpeg_of_countless_scans_is_refused(picture: Image.Image) -> None:
    """Each passes over all pixels: a file of 64 MB would keep a decoder busy for hours."""
    data = encode(picture, "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data[:-2] + scan * 20 + data[-2:], size=8).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="scans"):
        decode(data[:-2] + scan * 100 + data[-2:], size=8)


def test_what_follows_a_jpeg_is_not_counted_as_scans(photo: Path) -> None:
    """Telephones put a film there."""
    data = photo.read_bytes()
    assert np.array_equal(decode(data + b"\xff\xda" * 1000, size=8), decode(data, size=8))


def test_odd_but_readable_files_print_nothing(tmp_path: Path, photo: Path) -> None:
    """Outside pytest's own warning filters; one line for each of a million images helps nobody."""
    tiff = encode(Image.open(photo), "TIFF", compression="tiff_lzw")
    odd = [with_broken_exif(photo.read_bytes()), bomb(9_500, 10_000), tiff[:-5000]]
    for number, data in enumerate(odd):
        (tmp_path / f"{number}").write_bytes(data)
    code = (
        "import sys, pathlib, simdist.images.decoding as images\n"
        "from simdist.errors import ImageError\n"
        "for name in sys.argv[1:]:\n"
        "    try: images.decode(pathlib.Path(name).read_bytes(), size=8)\n"
        "    except ImageError: pass\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
