"""What a training that was stopped goes on from: one file, written after each epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simdist.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        phase: 0 while only the head was trained, 1 when everything was.
        training_loss: the mean over the epoch, while the weights changed.
        validation_loss, accuracy: of the validation images, after it.
        seconds: how long it took.
    """

    phase: int
    training_loss: float
    validation_loss: float
    accuracy: float
    seconds: float


@dataclass
class Checkpoint:
    """The state of a training between two epochs.

    Random numbers are no part of it: each epoch's come from the seed and its number.

    Attributes:
        learning_rate: the highest of the first phase.
        epochs: those that are done.
        losses: of each batch so far.
        weights: the network's state.
        optimizer: the optimizer's state of each parameter, in their order.
        best_weights: the weights after the epoch with the lowest validation loss.
    """

    learning_rate: float
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    optimizer: list[dict[str, Any]] = field(default_factory=list)
    best_weights: Mapping[str, Tensor] = field(default_factory=dict)

    def in_phase(self, phase: int) -> list[Epoch]:
        """The epochs of a phase."""
        return [epoch for epoch in self.epochs if epoch.phase == phase]

    def write(self, path: Path) -> None:
        """Write it, whole or not at all."""
        import torch

        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["epochs"] = [asdict(epoch) for epoch in self.epochs]
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            torch.save(fields, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read it; nothing in the file is run.

        Raises:
            ModelError: it is damaged.
        """
        import torch

        try:
            fields = torch.load(path, map_location="cpu", weights_only=True)
            fields["epochs"] = [Epoch(**epoch) for epoch in fields["epochs"]]
            return cls(**fields)
        # torch raises nearly anything on a damaged or hostile file; all of it means the same here.
        except Exception as error:
            raise ModelError(
                f"{path} is damaged: delete it, and the training starts anew"
            ) from error


def is_stuck(epochs: Sequence[Epoch], patience: int) -> bool:
    """Whether the lowest validation loss is `patience` epochs ago."""
    losses = [epoch.validation_loss for epoch in epochs]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience
