"""The part of an ingest that needs no Ray. Called as a function, it runs a whole ingest."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simdist.ingest.progress import Summary


class _CallablePackage(ModuleType):
    """A package that hands calls on to `cluster.ingest.job.ingest`.

    `simdist.ingest` is the public name of that function. But importing any module of this package
    makes Python bind the same name to the package, so the package has to behave like the function.
    It imports the function when it is called or looked at: the function belongs to a layer above.
    """

    # help() lists what `__all__` names; inspect.signature() follows `__wrapped__`.
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
