"""Arrays by their addresses: a compiled loop is given many of them at once.

Handing over an array takes a quarter of a microsecond, and a search has two dozen that stay the
same from one query to the next. This module imports numba, which is heavy: import it within the
functions that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled

_DIMENSIONS = 3
# Bytes of a line of a cache; and which of them is meant.
_LINE, _SECOND_CACHE = 64, 2

cgutils: Any = untyped_cgutils


def headers(*arrays: NDArray[Any]) -> NDArray[np.int64]:
    """(n, 4) int64, of each array the address and the shape, of three dimensions at most.

    Whoever keeps them must keep the arrays too.
    """
    described = np.zeros((len(arrays), 1 + _DIMENSIONS), np.int64)
    for header, array in zip(described, arrays, strict=True):
        if not array.flags.c_contiguous:
            raise ValueError("an array with gaps has no place in headers")
        header[: 1 + array.ndim] = array.ctypes.data, *array.shape
    return described


def _address_as_pointer(_: Any, __: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(types.intp), generate


def _fetch(_: Any, __: Any, ___: Any) -> Any:
    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        start, size = arguments
        pointer = ir.IntType(8).as_pointer()
        flags = [ir.IntType(32)(flag) for flag in (0, _SECOND_CACHE, 1)]
        kind = ir.FunctionType(ir.VoidType(), [pointer] + [flag.type for flag in flags])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        lines = builder.udiv(builder.add(size, size.type(_LINE - 1)), size.type(_LINE))
        with cgutils.for_range(builder, lines) as loop:
            line = builder.add(start, builder.mul(loop.index, size.type(_LINE)))
            builder.call(prefetch, [builder.inttoptr(line, pointer), *flags])
        return context.get_dummy_value()

    return types.none(types.intp, types.intp), generate


_pointer: Any = intrinsic(_address_as_pointer)
# (address, bytes): begin to bring memory nearer, which will be read soon.
fetch: Any = intrinsic(_fetch)


@compiled()
def vector_at(headers: NDArray[np.int64], i: int, dtype: Any) -> Any:
    """The i-th array, (n,), of a dtype that is not looked at."""
    return carray(_pointer(headers[i, 0]), (headers[i, 1],), dtype)


@compiled()
def matrix_at(headers: NDArray[np.int64], i: int, dtype: Any) -> Any:
    """The i-th array, (n, m)."""
    return carray(_pointer(headers[i, 0]), (headers[i, 1], headers[i, 2]), dtype)


@compiled()
def cube_at(headers: NDArray[np.int64], i: int, dtype: Any) -> Any:
    """The i-th array, (n, m, k)."""
    return carray(_pointer(headers[i, 0]), (headers[i, 1], headers[i, 2], headers[i, 3]), dtype)
