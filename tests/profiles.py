"""ICC profiles, made from what defines them."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
from PIL import Image, ImageCms

# Colours of red, green and blue in XYZ, adapted to D50, and the exponent.
Primaries = tuple[tuple[float, float, float], ...]
DISPLAY_P3: Primaries = (
    (0.5151, 0.2412, -0.0011),
    (0.2920, 0.6922, 0.0419),
    (0.1571, 0.0666, 0.7841),
)
ADOBE_RGB: Primaries = (
    (0.6097, 0.3111, 0.0195),
    (0.2053, 0.6257, 0.0609),
    (0.1492, 0.0632, 0.7446),
)
PROPHOTO: Primaries = ((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249))
_D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(primaries: Primaries, gamma: float) -> bytes:
    """A profile of three primaries and one curve."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {f"{name}XYZ": _xyz(value) for name, value in zip("rgb", primaries, strict=True)}
    tags |= {f"{name}TRC": curve for name in "rgb"}
    return _profile("RGB ", "XYZ ", tags)


def cmyk_profile() -> bytes:
    """A press whose inks are paler than pure ones: 16 corners, and all between them."""
    corners = []
    for inks in product((0, 1), repeat=4):
        cyan, magenta, yellow, black = (0.7 * ink for ink in inks)
        light = [255 * (1 - ink) * (1 - black) for ink in (cyan, magenta, yellow)]
        pixel = Image.fromarray(np.array([[light]]).round().astype(np.uint8))
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        lab = ImageCms.applyTransform(pixel, to_lab)
        assert lab is not None
        first, *others = lab.tobytes()
        # Pillow's LAB has signed numbers, a table's begin at -128.
        corners.append(bytes((first, *((value + 128) % 256 for value in others))))
    straight = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity
    table += straight * 4 + b"".join(corners) + straight * 3
    return _profile("CMYK", "Lab ", {"A2B0": table}, kind="prtr")


def _profile(space: str, pcs: str, tags: dict[str, bytes], *, kind: str = "mntr") -> bytes:
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(12 + 67)
    tags = {"desc": text, "cprt": b"text" + bytes(4) + b"none\0", "wtpt": _xyz(_D50)} | tags
    at = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name.encode() + struct.pack(">II", at + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = struct.pack(
        ">I4sI4s4s4s",
        at + len(data),
        b"",
        0x0210_0000,
        *(part.encode() for part in (kind, space, pcs)),
    )
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(struct.pack(">i", round(value * 65536)) for value in _D50)
    return header.ljust(128, b"\0") + table + data


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(part * 65536) for part in value))
