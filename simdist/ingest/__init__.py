"""The half of an ingest that needs no Ray; and, called, a whole ingest.

>>> simdist.ingest("photos/", collection="demo")
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdist.ingest.progress import Summary


class _CallablePackage(ModuleType):
    """This package, handing calls on to `cluster.ingest.job.ingest`.

    `simdist.ingest` is that function's public name, but as soon as anything here is imported,
    Python lets the same name mean this package: so either must do as the other. The function is
    above this package, and is imported when it is called or looked at.
    """

    # What help() lists, and `__wrapped__` is where inspect.signature() looks.
    __all__ = ("ingest",)

    def __call__(self, *arguments: Any, **options: Any) -> Summary:
        return self.__wrapped__(*arguments, **options)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "ingest"]

    @property
    def __wrapped__(self) -> Callable[..., Summary]:
        function: Callable[..., Summary] = import_module("cluster.ingest.job").ingest
        return function

    ingest = __wrapped__


sys.modules[__name__].__class__ = _CallablePackage
