"""`compiled`: how loops are compiled. It imports numba, which is heavy: so do those who use it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def compiled(*, fastmath: set[str] | None = None) -> Callable[[_Loop], _Loop]:
    """Compile a loop when it is first called; it holds no lock.

    It is kept on disk, in NUMBA_CACHE_DIR, beside the code or in the home directory. Where none of
    them may be written, as in a container under any number, each process compiles for itself.

    Args:
        fastmath: what the compiler may assume of sums, in LLVM's words.
    """

    def compile_(loop: _Loop) -> _Loop:
        math = fastmath or False
        if _has_home() or "NUMBA_CACHE_DIR" in os.environ:
            # Raised where no folder can be written.
            with suppress(RuntimeError):
                return cast(_Loop, numba.njit(loop, nogil=True, cache=True, fastmath=math))
        return cast(_Loop, numba.njit(loop, nogil=True, fastmath=math))

    return compile_


def _has_home() -> bool:
    """Without one numba would keep its files in the working folder, and run what it finds there."""
    try:
        return Path.home().is_absolute()
    except RuntimeError:
        return False
