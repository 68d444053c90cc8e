"""Sums of products of bytes, for the compiled loops, by the instructions that processors have.

numba multiplies whole numbers in 64 bits, which no processor does for many at once. So the inner
loops are given to LLVM in its own terms: products of neighbours, added in pairs. It has one
instruction for sixteen such pairs and their sums where there is VNNI (`vpdpwssd`), two with AVX2
(`vpmaddwd`), and vectors of its own for ARM; no processor is named here. This module imports
numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled
from simdist.vectors.packing import LANES, STEP

# Values of a query that are padded to: 32 bytes of codes have as many, at a bit each.
CHUNK = 256

cgutils: Any = untyped_cgutils
_BYTE, _HALF, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_SUMS = ir.VectorType(_INT, LANES)
_WHOLE = ir.VectorType(_HALF, 2 * LANES)
_BYTES = ir.VectorType(_BYTE, 2 * LANES)


@compiled()
def padded_width(width: int) -> int:
    """How long a query must be for the products here, with zeros in the end."""
    return (width + CHUNK - 1) // CHUNK * CHUNK


@compiled(fastmath={"reassoc", "contract", "nsz", "nnan"})
def round_query(query: NDArray[np.float32], whole: NDArray[np.int16]) -> Any:
    """Round a query as `loops.round_rows` does, to what the products here take.

    Args:
        query: (d,) float32.
        whole: (`padded_width`,) filled in with values from -127 to 127, and zeros.

    Returns:
        By what the values are to be multiplied, the length of what is lost by it, and 1 / their
        length, which is 0 where all are.
    """
    peak = np.float32(0)
    for i in range(len(query)):
        peak = max(peak, abs(query[i]))
    if peak == 0:
        whole[:] = 0
        return np.float32(0), np.float32(0), np.float32(0)
    scale, step = np.float32(127) / peak, peak / np.float32(127)
    square = lost = np.float32(0)
    for i in range(len(query)):
        value = np.rint(query[i] * scale)
        whole[i] = np.int16(value)
        square += value * value
        lost += (query[i] - step * value) * (query[i] - step * value)
    for i in range(len(query), len(whole)):
        whole[i] = 0
    return step, np.sqrt(lost), np.float32(1) / np.sqrt(square)


@compiled()
def dot_columns(
    whole: NDArray[np.int16], packed: NDArray[np.int8], first: int, products: NDArray[np.int32]
) -> None:
    """The products of a query with columns side by side.

    Args:
        whole: (`padded_width`,) from -127 to 127.
        packed: `packing.pack_columns`.
        first: the group to begin with.
        products: (16 n,) filled in, those of n groups.
    """
    pairs = packed.shape[1]
    start, out = packed.ctypes.data, products.ctypes.data
    for group in range(len(products) // LANES):
        columns = start + (first + group) * pairs * 2 * LANES
        _dot_sixteen(whole.ctypes.data, columns, 2 * pairs // STEP, out + 4 * LANES * group)


def _dot_bytes(_: Any, whole: Any, row: Any, width: Any) -> Any:
    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        whole, row, width = arguments
        sums = cgutils.alloca_once_value(builder, ir.Constant(_SUMS, [0] * LANES))
        steps = builder.udiv(width, _LONG(2 * LANES))
        with cgutils.for_range(builder, steps) as loop:
            query = _load(builder, whole, loop.index, _WHOLE)
            values = _load(builder, row, loop.index, _BYTES)
            _add_products(builder, sums, query, values)
        total = cgutils.alloca_once_value(builder, _sum_of_all(builder, builder.load(sums)))
        with cgutils.for_range_slice(
            builder, builder.mul(steps, _LONG(2 * LANES)), width, _LONG(1), _LONG
        ) as (i, _count):
            query = builder.sext(_load(builder, whole, i, _HALF), _LONG)
            value = builder.sext(_load(builder, row, i, _BYTE), _LONG)
            builder.store(builder.add(builder.load(total), builder.mul(query, value)), total)
        return builder.load(total)

    return types.int64(types.intp, types.intp, types.intp), generate


def _dot_codes(bits: int) -> Any:
    """The product of a query and a row of codes of so many bits: see `codes.pack_codes`."""

    def product(_: Any, whole: Any, row: Any, width: Any) -> Any:
        def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
            whole, row, width = arguments
            zeros, parts = ir.Constant(_SUMS, [0] * LANES), 8 // bits
            sums = [cgutils.alloca_once_value(builder, zeros) for _ in range(min(parts, 2))]
            steps = builder.udiv(width, _LONG(2 * LANES))
            with cgutils.for_range(builder, steps) as loop:
                codes = _load(builder, row, loop.index, _BYTES)
                first = builder.mul(loop.index, _LONG(parts))
                for part in range(parts):
                    shift = ir.Constant(_BYTES, [bits * part] * 2 * LANES)
                    mask = ir.Constant(_BYTES, [(1 << bits) - 1] * 2 * LANES)
                    values = builder.and_(builder.lshr(codes, shift), mask)
                    query = _load(builder, whole, builder.add(first, _LONG(part)), _WHOLE)
                    _add_products(builder, sums[part % 2], query, values)
            total = builder.load(sums[0])
            for more in sums[1:]:
                total = builder.add(total, builder.load(more))
            return _sum_of_all(builder, total)

        return types.int64(types.intp, types.intp, types.intp), generate

    return product


def _sixteen_products(_: Any, whole: Any, columns: Any, steps: Any, products: Any) -> Any:
    """The products of `STEP` values a step with a group of columns, written to an address."""

    def generate(context: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        whole, columns, steps, products = arguments
        zeros = ir.Constant(_SUMS, [0] * LANES)
        parts = [cgutils.alloca_once_value(builder, zeros) for _ in range(STEP // 2)]
        with cgutils.for_range(builder, steps) as loop:
            for i, part in enumerate(parts):
                pair = builder.add(builder.mul(loop.index, _LONG(len(parts))), _LONG(i))
                query = _repeated(builder, _load(builder, whole, pair, _INT))
                group = _load(builder, columns, pair, _BYTES)
                _add_products(builder, part, builder.bitcast(query, _WHOLE), group)
        total = builder.load(parts[0])
        for part in parts[1:]:
            total = builder.add(total, builder.load(part))
        builder.store(total, builder.inttoptr(products, _SUMS.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, types.intp, types.intp), generate


def _load(builder: ir.IRBuilder, start: Any, index: Any, type_: ir.Type) -> Any:
    """The item of an array at an address."""
    size = getattr(type_, "count", 1) * getattr(type_, "element", type_).width // 8
    address = builder.add(start, builder.mul(index, _LONG(size)))
    return builder.load(builder.inttoptr(address, type_.as_pointer()), align=1)


def _sum_of_all(builder: ir.IRBuilder, sums: Any) -> Any:
    """The sum of all lanes, in 64 bits."""
    wide = ir.VectorType(_LONG, LANES)
    add = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_LONG, [wide]), f"llvm.vector.reduce.add.v{LANES}i64"
    )
    return builder.call(add, [builder.sext(sums, wide)])


def _repeated(builder: ir.IRBuilder, value: Any) -> Any:
    """One number in all lanes."""
    undefined = ir.Constant(_SUMS, ir.Undefined)
    first = builder.insert_element(undefined, value, _INT(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_SUMS, [0] * LANES))


def _add_products(builder: ir.IRBuilder, sums: Any, query: Any, row: Any) -> None:
    """Add products of neighbours: 32 int16 and 32 int8 to 16 sums."""
    wide = ir.VectorType(_INT, 2 * LANES)
    products = builder.mul(builder.sext(query, wide), builder.sext(row, wide), flags=("nsw",))
    undefined = ir.Constant(wide, ir.Undefined)
    even, odd = (
        builder.shuffle_vector(
            products, undefined, ir.Constant(_SUMS, list(range(start, 2 * LANES, 2)))
        )
        for start in (0, 1)
    )
    builder.store(builder.add(builder.load(sums), builder.add(even, odd)), sums)


# By addresses: of a view of each row a loop would count who uses it.
# (whole, row, width) -> the product of a query, int16, and a row, int8, each from -127 to 127.
dot_bytes: Any = intrinsic(_dot_bytes)
_dot_fours: Any = intrinsic(_dot_codes(4))
_dot_twos: Any = intrinsic(_dot_codes(2))
_dot_ones: Any = intrinsic(_dot_codes(1))
# Loops find these when they are compiled.
_dot_sixteen: Any = intrinsic(_sixteen_products)


@compiled()
def dot_codes(whole: int, row: int, width: int, bits: int) -> int:
    """The product of a query, int16, and a row of codes of 4, 2 or 1 bits, by their addresses.

    Args:
        width: bytes of the row, a multiple of 32; the query has zeros in its end.
    """
    if bits == 4:
        return int(_dot_fours(whole, row, width))
    if bits == 2:
        return int(_dot_twos(whole, row, width))
    return int(_dot_ones(whole, row, width))
