"""`compiled`: how loops are compiled. It imports numba, which is heavy: so do those who use it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import IndexDataCacheFile

_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def compiled(*, fastmath: set[str] | None = None) -> Callable[[_Loop], _Loop]:
    """Compile a loop when it is first called; it holds no lock.

    It is kept on disk, in NUMBA_CACHE_DIR, beside the code or in the home directory. Where none of
    them may be written, as in a container under any number, each process compiles for itself. What
    whoever installed simdist has compiled beside the code is used wherever others are kept.

    Args:
        fastmath: what the compiler may assume of sums, in LLVM's words.
    """

    def compile_(loop: _Loop) -> _Loop:
        math = fastmath or False
        if _has_home() or "NUMBA_CACHE_DIR" in os.environ:
            # Raised where no folder can be written.
            with suppress(RuntimeError):
                kept: Any = numba.njit(loop, nogil=True, cache=True, fastmath=math)
                kept._cache._cache_file = _Files(kept._cache, Path(loop.__code__.co_filename))
                return cast(_Loop, kept)
        return cast(_Loop, numba.njit(loop, nogil=True, fastmath=math))

    return compile_


class _Files:
    """What numba keeps of a loop on disk, and what the installation brought beside its code.

    numba looks at the loop's own file only: after an upgrade it would go on with what other loops,
    which it calls, were before.
    """

    def __init__(self, cache: Any, file: Path) -> None:
        files: Any = IndexDataCacheFile
        name, stamp = cache._impl.filename_base, _sources(file)
        own = files(cache.cache_path, name, stamp)
        self.save, self.flush, self._load = own.save, own.flush, own.load
        self._load_installed = files(str(file.parent / "__pycache__"), name, stamp).load

    def load(self, key: object) -> object:
        kept = self._load(key)
        return self._load_installed(key) if kept is None else kept


def _sources(file: Path) -> str:
    """What tells the sources of a package from any others, by a file in one of its folders."""
    return _digest(file.parent.parent)


@lru_cache
def _digest(package: Path) -> str:
    digest = hashlib.blake2b()
    for file in sorted(package.glob("*/*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _has_home() -> bool:
    """Without one numba would keep its files in the working folder, and run what it finds there."""
    try:
        return Path.home().is_absolute()
    except RuntimeError:
        return False
