"""Ctrl-C, also where it strikes a library that makes something else of it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN_SECONDS = 0.1


class Interrupts:
    """Ctrl-C as Python handles it, but noted: a library may make another error of it.

    Or none, where C called Python, as numba's compiler does: then Ctrl-C comes once more.
    """

    def __init__(self) -> None:
        self.came = False
        self._hook = sys.unraisablehook
        self._again: threading.Timer | None = None

    def interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        """Handle the signal."""
        self.came = True
        raise KeyboardInterrupt

    def unraisable(self, lost: UnraisableHookArgs) -> None:
        """See to an exception that could not be passed on."""
        if lost.exc_type is KeyboardInterrupt:
            # A true signal, which also wakes what sleeps.
            again = (threading.main_thread().ident, signal.SIGINT)
            self._again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, again)
            self._again.start()
        else:
            self._hook(lost)

    def forget(self) -> None:
        """Ask no more: what was to be stopped is done."""
        if self._again:
            self._again.cancel()


@contextmanager
def noted_interrupts() -> Iterator[Interrupts]:
    """Note Ctrl-C as long as this is entered."""
    interrupts = Interrupts()
    handler, hook = signal.getsignal(signal.SIGINT), sys.unraisablehook
    # What runs in the background is deaf to Ctrl-C, and stays so.
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupts.interrupt)
        sys.unraisablehook = interrupts.unraisable
    try:
        yield interrupts
    finally:
        interrupts.forget()
        signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = hook
