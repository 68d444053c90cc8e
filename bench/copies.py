"""Copies of photographs, of known strength: crops, JPEG, turns, text, frames, colours."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Way = Callable[[Image.Image, np.random.Generator], Image.Image]

# What imagededup's benchmark makes of a photograph: at 640 x 480, 560 x 420 and 620 x 420 of it.
IMAGEDEDUP = ("centre 88 x 88 %", "centre 97 x 88 %", "mirrored", "flipped", "turned 25", "aspect")
EXACT = "exact"


def ways() -> dict[str, Way]:
    """What is made of a photograph, by name."""
    made: dict[str, Way] = {
        EXACT: lambda picture, _: picture,
        "centre 88 x 88 %": lambda picture, _: _centre(picture, 560 / 640, 420 / 480),
        "centre 97 x 88 %": lambda picture, _: _centre(picture, 620 / 640, 420 / 480),
        "mirrored": lambda picture, _: ImageOps.mirror(picture),
        "flipped": lambda picture, _: ImageOps.flip(picture),
        "turned 25": lambda picture, _: picture.rotate(25),
        "turned 5": lambda picture, _: picture.rotate(5),
        "turned 90": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_90),
        "turned 180": lambda picture, _: picture.rotate(180),
        "aspect": lambda picture, _: picture.resize((picture.width, picture.height * 3 // 4)),
        "half size": lambda picture, _: picture.resize((picture.width // 2, picture.height // 2)),
        "quarter size": lambda picture, _: picture.resize(
            (picture.width // 4, picture.height // 4)
        ),
        "text": lambda picture, _: _with_text(picture),
        "screenshot": lambda picture, _: _framed(picture),
        "brighter": lambda picture, _: ImageEnhance.Brightness(picture).enhance(1.4),
        "darker": lambda picture, _: ImageEnhance.Brightness(picture).enhance(0.6),
        "contrast": lambda picture, _: ImageEnhance.Contrast(picture).enhance(1.5),
        "grey": lambda picture, _: picture.convert("L").convert("RGB"),
    }
    made |= {
        f"cropped {share} %": partial(_cropped, share=share) for share in (10, 20, 30, 50, 70, 80)
    }
    return made | {
        f"JPEG {quality}": partial(_jpeg, quality=quality) for quality in (3, 5, 10, 20, 50, 75)
    }


def encoded(picture: Image.Image, quality: int = 90) -> bytes:
    """A picture as a JPEG file."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def distractors(count: int, generator: np.random.Generator) -> Iterator[Image.Image]:
    """Blank pictures, such as shade off, and logos: some shapes on a plain ground."""
    for number in range(count):
        ground = tuple(generator.integers(0, 256, 3).tolist())
        other = tuple(generator.integers(0, 256, 3).tolist())
        picture = Image.new("RGB", (320, 240), ground)
        if number % 3 == 1:
            shade = (
                Image.linear_gradient("L")
                .rotate(int(generator.integers(0, 360)))
                .resize((320, 240))
            )
            picture.paste(Image.new("RGB", (320, 240), other), mask=shade)
        elif number % 3 == 2:
            _draw_logo(ImageDraw.Draw(picture), other, generator)
        yield picture


def photographs(folder: Path) -> list[Path]:
    """Caltech-101's, but for those of which it says itself that they repeat others."""
    return sorted(
        path for path in folder.glob("*/*.jpg") if not path.parent.name.startswith("Faces")
    )


def _draw_logo(
    draw: ImageDraw.ImageDraw, colour: tuple[int, ...], generator: np.random.Generator
) -> None:
    for _ in range(int(generator.integers(1, 4))):
        x, y = generator.integers(20, 220), generator.integers(20, 160)
        width, height = generator.integers(30, 100, 2)
        box = (int(x), int(y), int(x + width), int(y + height))
        if generator.random() < 0.5:
            draw.ellipse(box, fill=colour)
        else:
            draw.rectangle(box, fill=colour)
    letters = "".join(chr(65 + letter) for letter in generator.integers(0, 26, 4))
    draw.text((int(generator.integers(20, 200)), 200), letters, fill=colour, font_size=32)


def _centre(picture: Image.Image, wide: float, high: float) -> Image.Image:
    width, height = picture.size
    left, top = width * (1 - wide) / 2, height * (1 - high) / 2
    return picture.crop((round(left), round(top), round(width - left), round(height - top)))


def _cropped(picture: Image.Image, generator: np.random.Generator, *, share: int) -> Image.Image:
    side = (1 - share / 100) ** 0.5
    width, height = round(picture.width * side), round(picture.height * side)
    left = int(generator.integers(0, picture.width - width + 1))
    top = int(generator.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def _jpeg(picture: Image.Image, _: np.random.Generator, *, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(encoded(picture, quality))).convert("RGB")


def _with_text(picture: Image.Image) -> Image.Image:
    written = picture.copy()
    draw = ImageDraw.Draw(written)
    width, height = written.size
    draw.rectangle((0, height * 3 // 4, width, height * 7 // 8), fill="white")
    draw.text((width // 10, height * 25 // 32), "MY HOLIDAY, DAY 3", fill="black")
    return written


def _framed(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    frame = Image.new("RGB", (round(width * 1.15), round(height * 1.35)), "#222222")
    frame.paste(picture, (round(width * 0.07), round(height * 0.2)))
    ImageDraw.Draw(frame).text((5, 5), "12:45   Gallery", fill="white")
    return frame
