"""Vectors as bytes: float32 numbers one after the other, or a NumPy file (.npy) of them."""

from __future__ import annotations

import io
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cluster.service.http.bodies import NUMPY
from cluster.service.http.problems import ProblemError
from simdist.images.decoding import is_image
from simdist.images.formats import FORMATS, format_of

_FLOAT32 = np.dtype("<f4")
# NumPy writes headers of 128 bytes; what a longer one says would be evaluated at length.
_MAX_HEADER = 1024
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def vector_or_image(data: bytes, *, dim: int) -> NDArray[np.float32] | None:
    """A vector, where bytes are one; None where they are an image.

    Returns:
        (dim,) float32.

    Raises:
        ProblemError: they are neither.
    """
    if not data.startswith(NUMPY):
        # Whatever the length, an image is one: pictures of 5,120 bytes exist.
        if not data or (format_of(data) and (len(data) != 4 * dim or is_image(data))):
            return None
        if len(data) != 4 * dim:
            raise ProblemError(
                422,
                f"not an image of a known format ({', '.join(FORMATS)}), and {len(data):,} bytes "
                f"where a vector, {dim:,} float32 numbers in {4 * dim:,} bytes, is needed",
            )
    vector: NDArray[np.float32] = read_vectors(data, dim=dim, most=1)[0]
    return vector


def read_vectors(data: bytes, *, dim: int, most: int) -> NDArray[np.float32]:
    """Vectors from bytes.

    Args:
        dim: numbers of each.
        most: so many vectors.

    Returns:
        (n, dim) float32, n from 1 to `most`.

    Raises:
        ProblemError: the bytes are none.
    """
    if data.startswith(NUMPY):
        return _from_numpy(data, dim, most)
    if not 1 <= len(data) / (4 * dim) <= most or len(data) % (4 * dim):
        _refuse(
            f"{len(data):,} bytes; a vector has {4 * dim:,}, {dim:,} little-endian float32 "
            f"numbers, and there may be {most}"
        )
    return np.frombuffer(data, _FLOAT32).reshape(-1, dim).astype(np.float32, copy=False)


def _from_numpy(data: bytes, dim: int, most: int) -> NDArray[np.float32]:
    file = io.BytesIO(data)
    try:
        read_header = _READ_HEADER[np.lib.format.read_magic(file)]
        shape, by_columns, dtype = read_header(file, max_header_size=_MAX_HEADER)
    # A header is a Python literal, and what reads it raises nearly anything.
    except Exception as error:
        raise ProblemError(
            422,
            f"not a NumPy file of vectors: its header cannot be read, or has more than "
            f"{_MAX_HEADER:,} bytes",
        ) from error
    # Also of objects, which are pickles: nothing is read of those.
    if dtype != _FLOAT32:
        _refuse(f"a NumPy file of {_brief(dtype)}; save little-endian float32: astype('<f4')")
    wanted = [(dim,)] if most == 1 else []
    if shape not in wanted and not (len(shape) == 2 and shape[1] == dim and 1 <= shape[0] <= most):
        _refuse(f"a NumPy file of shape {_brief(shape)} where ({most}, {dim}) is the most")
    numbers = data[file.tell() :]
    count = int(np.prod(shape))
    if len(numbers) != 4 * count:
        _refuse(f"a NumPy file whose numbers have {len(numbers):,} bytes, not {4 * count:,}")
    array = np.frombuffer(numbers, _FLOAT32).reshape(shape, order="F" if by_columns else "C")
    return array.reshape(-1, dim).astype(np.float32, copy=False)


def _brief(given: Any) -> str:
    """What a caller wrote, in a sentence to the caller."""
    return str(given)[:60]


def _refuse(what: str) -> NoReturn:
    raise ProblemError(422, f"not a body of vectors: {what}")
