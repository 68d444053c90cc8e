"""What a training is asked for, how far it is, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simdist.training.checkpoint import Epoch
from simdist.training.split import VALIDATION, Split

EPOCHS = (3, 3)
BATCH = 32
LEARNING_RATE = 2e-3
PATIENCE = 5


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        arch: the backbone's name.
        epochs: with only the head trained, then with everything.
        images: how many of a category are for training and validation; None: all.
        validation: the share of those that is for validation.
        exclude: categories to leave out.
        batch: images in a batch.
        learning_rate: the highest while the head is trained; everything is trained with half of it
            at the head, and a thirtieth of that at the first layers. None: fastai's finder says.
        patience: a phase ends after so many epochs without a lower validation loss.
        seed: for the split, the head's first weights, the order and augmentation of the images.
    """

    arch: str
    epochs: tuple[int, int] = EPOCHS
    images: int | None = None
    validation: float = VALIDATION
    exclude: tuple[str, ...] = ()
    batch: int = BATCH
    learning_rate: float | None = LEARNING_RATE
    patience: int = PATIENCE
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch, epochs: the one that is under way, from 1 on, and how many there are.
        batch, batches: of this epoch, of training and validation together.
        loss: of the last batch; NaN before the first.
        last: the epoch before.
    """

    phase: int
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    last: Epoch | None


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        epochs: what each came to.
        best: the index of the epoch whose weights the bundle has.
        left_out: images that could not be read, and why.
        licence: of the weights that it began with; empty where nobody says.
    """

    folder: Path
    model_id: str
    split: Split
    epochs: tuple[Epoch, ...]
    best: int
    left_out: Mapping[str, str]
    licence: str
