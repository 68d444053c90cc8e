"""Pixels on their way to a device: to a GPU they are copied while it is at those before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simdist.images.limits import Pixels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Staged:
    """Pixels that are on the device, or on their way there.

    Attributes:
        arrived: the event of their arrival; None where nothing is under way.
    """

    pixels: Tensor
    arrived: Any = None

    def __len__(self) -> int:
        return len(self.pixels)

    def wait(self) -> Tensor:
        """The pixels, for the device's current stream, which waits for them; this process does not.

        Call it once.
        """
        if self.arrived is not None:
            import torch

            stream = torch.cuda.current_stream(self.pixels.device)
            stream.wait_event(self.arrived)
            # They were allocated for the stream of copies, which knows nothing of their use here.
            self.pixels.record_stream(stream)
        return self.pixels


class Stage:
    """Brings pixels to a device; to a GPU on a stream of copies. Several threads may use it."""

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.device(device)
        stream: Any = torch.cuda.Stream
        self._copies = stream(self._device) if self._device.type == "cuda" else None

    def put(self, pixels: Pixels) -> Staged:
        """Begin to bring them; what is given may be changed afterwards where that is a GPU."""
        import torch

        # Arrays from Pillow or Ray are read-only, which torch does not take. Nor does it take one
        # image of a reversed array, which NumPy calls contiguous.
        pixels = np.require(pixels, requirements=["C", "W"])
        here = torch.from_numpy(pixels.copy() if min(pixels.strides) < 0 else pixels)
        if self._copies is None:
            return Staged(here.to(self._device))
        # Only from pinned memory does a copy go on by itself. torch keeps that until it is done.
        pinned = here.pin_memory()
        with torch.cuda.stream(self._copies):
            there = pinned.to(self._device, non_blocking=True)
            return Staged(there, self._copies.record_event())
