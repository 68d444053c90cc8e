"""Parts of pictures: which can be said, and what is cut out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from simdist.errors import ImageError, UsageError
from simdist.images.parts import Part
from simdist.search.question import Example, Question


def picture(width: int, height: int, form: str, **how: object) -> bytes:
    """A picture each of whose pixels is another one."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x % 256, y % 256, x // 256 + 16 * (y // 256)], axis=2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **how)
    return file.getvalue()


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_what_is_cut_out() -> None:
    data = picture(400, 200, "PNG")
    cut = opened(Part.parse("0.25,0.1,0.5,0.45").cut(data))
    np.testing.assert_array_equal(cut, opened(data)[20:110, 100:300])
    np.testing.assert_array_equal(opened(Part.parse("0,0,1,1").cut(data)), opened(data))
    # Three tenths and seven are a hair more than one.
    assert opened(Part.parse("0.3,0.9,0.7,0.1").cut(data)).shape == (20, 280, 3)


def test_of_an_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = picture(400, 200, "PNG", exif=exif)
    upright = np.rot90(opened(data), -1)
    cut = opened(Part.parse("0,0,0.5,0.25").cut(data))
    np.testing.assert_array_equal(cut, upright[:100, :100])


def test_of_a_large_jpeg_no_more_is_decoded_than_is_needed() -> None:
    data = picture(4000, 2000, "JPEG", quality=50)
    assert opened(Part.parse("0,0,1,1").cut(data)).shape == (1000, 2000, 3)
    assert opened(Part.parse("0,0,0.25,0.5").cut(data)).shape == (1000, 1000, 3)


WRONG = """ 1 0,0,1 0,0,1,1,1 a,b,c,d 0,0,0,1 0,0,1,0 -0.1,0,0.5,0.5 0.6,0,0.5,1 0,0,nan,1 nan,0,1,1
0,0,inf,1 10,10,200,200"""


@pytest.mark.parametrize("text", ["", *WRONG.split()])
def test_what_is_no_part(text: str) -> None:
    with pytest.raises(UsageError, match="no part of an image"):
        Question(image=b"...", crop=text)


def test_what_has_no_parts() -> None:
    with pytest.raises(ImageError, match="less than a pixel"):
        Part.parse("0.1,0.1,0.001,0.001").cut(picture(20, 20, "PNG"))
    for way in ({"uri": "urn:a"}, {"id": "00" * 12}, {"vector": [1.0]}):
        with pytest.raises(UsageError, match="out of image or url"):
            Question(**way, crop="0,0,1,1")
        with pytest.raises(UsageError, match="out of image or url"):
            Example(**way, crop="0,0,1,1")
    with pytest.raises(UsageError, match="with the example"):
        Question(like=[Example(uri="urn:a")], crop="0,0,1,1")
