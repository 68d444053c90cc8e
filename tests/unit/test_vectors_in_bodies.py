"""Vectors as the bytes of a request's body: what is one, and what is refused."""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from cluster.service.http.problems import ProblemError
from cluster.service.http.vectors import read_vectors, vector_or_image

DIM = 8
VECTORS = np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)


def saved(array: object, **options: bool) -> bytes:
    """The bytes of a NumPy file."""
    file = io.BytesIO()
    np.save(file, np.asanyarray(array), **options)
    return file.getvalue()


def header(text: str) -> bytes:
    """A NumPy file with a header of one's own, and a vector's numbers."""
    size = len(text).to_bytes(2, "little")
    return b"".join([b"\x93NUMPY\x01\x00", size, text.encode(), VECTORS[0].tobytes()])


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 5), "red").save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "body",
    [
        VECTORS.astype("<f4").tobytes(),
        saved(VECTORS),
        saved(np.asfortranarray(VECTORS)),
    ],
    ids=["raw", "npy", "by columns"],
)
def test_vectors_are_read(body: bytes) -> None:
    np.testing.assert_array_equal(read_vectors(body, dim=DIM, most=3), VECTORS)


@pytest.mark.parametrize(
    "body", [VECTORS[0].tobytes(), saved(VECTORS[0]), saved(VECTORS[:1])], ids=["raw", "1-d", "2-d"]
)
def test_a_vector_is_read(body: bytes) -> None:
    vector = vector_or_image(body, dim=DIM)
    np.testing.assert_array_equal(vector, VECTORS[0])
    assert vector is not None
    assert vector.dtype == np.float32


class TestRefused:
    """Each with a sentence that says what is wrong."""

    CASES: ClassVar[dict[str, tuple[bytes, str]]] = {
        "nothing": (b"", "0 bytes"),
        "too short": (VECTORS.tobytes()[:-1], "a vector has 32"),
        "too many": (np.ones((4, DIM), "<f4").tobytes(), "there may be 3"),
        "another dimension": (saved(np.ones((2, DIM + 1), "<f4")), "shape (2, 9)"),
        "none": (saved(np.ones((0, DIM), "<f4")), "shape (0, 8)"),
        "three axes": (saved(np.ones((1, 1, DIM), "<f4")), "shape (1, 1, 8)"),
        "float64": (saved(VECTORS.astype("<f8")), "float64; save little-endian float32"),
        "big-endian": (saved(VECTORS.astype(">f4")), ">f4; save"),
        "named fields": (saved(np.ones(2, [("a", "<f4")])), "save little-endian float32"),
        "objects": (saved(np.array([{}] * DIM), allow_pickle=True), "object; save"),
        "truncated": (saved(VECTORS)[:-1], "have 95 bytes, not 96"),
        "more than it says": (saved(VECTORS) + b"x", "have 97 bytes, not 96"),
        "no header": (b"\x93NUMPY", "header cannot be read"),
        "another version": (b"\x93NUMPY\x09\x00" + bytes(100), "header cannot be read"),
        "a huge header": (header("{'descr': '<f4'" + " " * 5000 + "}"), "more than 1,024"),
        "a deep header": (header("(" * 900), "header cannot be read"),
        "code": (header("__import__('os').abort()"), "header cannot be read"),
        "a size beyond all": (
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 500 + ",)}"),
            "shape (1000000000",
        ),
    }

    @pytest.mark.parametrize("name", CASES)
    def test_in_batches(self, name: str) -> None:
        body, said = self.CASES[name]
        with pytest.raises(ProblemError) as caught:
            read_vectors(body, dim=DIM, most=3)
        assert caught.value.status == 422
        assert said in caught.value.detail
        assert len(caught.value.detail) < 200

    @pytest.mark.parametrize("name", [name for name in CASES if name != "nothing"])
    def test_alone(self, name: str) -> None:
        with pytest.raises(ProblemError):
            vector_or_image(self.CASES[name][0], dim=DIM)

    def test_neither(self) -> None:
        with pytest.raises(ProblemError, match=r"not an image of a known format .* 7 bytes where"):
            vector_or_image(b"nothing", dim=DIM)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_an_image_as_long_as_a_vector_is_an_image(kind: str) -> None:
    data = picture(kind)
    data += bytes(-len(data) % 4)
    assert vector_or_image(data, dim=len(data) // 4) is None
    assert vector_or_image(data, dim=5) is None


def test_a_vector_that_begins_like_a_bmp_is_a_vector() -> None:
    body = b"BM" + VECTORS[0].tobytes()[2:]
    assert vector_or_image(body, dim=DIM) is not None


def test_an_image_that_is_damaged_is_still_told_so() -> None:
    assert vector_or_image(picture("PNG")[:20], dim=DIM) is None
    assert vector_or_image(b"", dim=DIM) is None
