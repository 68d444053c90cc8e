"""Colours as a profile means them -> sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageCms

# The largest in use, of printing presses, have less.
MAX_PROFILE = 4 * 1024 * 1024
# Profiles of a collection are few: those of its cameras, screens and presses.
_KEPT = 16
_SPACES = {"RGB ": "RGB", "CMYK": "CMYK"}
# So much of 255 may a profile differ from sRGB and still count as that.
_SAME = 2


def to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """An RGB or CMYK picture with a profile applied; as it is where that changes nothing.

    A profile that is damaged, or of another kind of colours, is passed over, as browsers do.
    """
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE:
        return picture
    transform = _transform(profile, picture.mode)
    if transform is None:
        return picture
    try:
        return ImageCms.applyTransform(picture, transform) or picture
    except ImageCms.PyCMSError:
        return picture


@lru_cache(maxsize=_KEPT)
def _transform(profile: bytes, mode: str) -> Any:
    """What turns a profile's colours of a mode into sRGB; None where there is nothing to do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _SPACES.get(source.profile.xcolor_space) != mode:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        if mode == "RGB":
            cube = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).astype(np.uint8)
            before = Image.fromarray(cube.reshape(-1, 18, 3))
            after = np.asarray(ImageCms.applyTransform(before, transform)).astype(int)
            if np.abs(after - np.asarray(before)).mean() < _SAME:
                return None
    # lcms says with any of these that a profile is damaged.
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform
