"""fastai's callbacks of a training.

This module imports fastai, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback, CancelFitException

from simdist.training.checkpoint import Checkpoint, Epoch, is_stuck
from simdist.training.job import Progress, TrainingOptions


class BodyAtRest(Callback):  # type: ignore[misc]
    """For a body that is not trained: no dropout, no new statistics."""

    order = 0  # behind what puts the network into training mode

    def before_train(self) -> None:
        """Put the body into evaluation mode."""
        self.model.body.eval()


class Recording(Callback):  # type: ignore[misc]
    """Keeps a checkpoint up to date, and prepares each epoch of a phase."""

    # Behind everything else: of an epoch that is skipped it sees nothing but the end.
    order = 90

    def __init__(
        self,
        state: Checkpoint,
        phase: int,
        options: TrainingOptions,
        save: Callable[[], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """A recording of one phase.

        Args:
            state: brought up to date after each epoch; `save` is called then.
            phase: 0 while only the head is trained, 1 when everything is.
            on_progress: called after each batch.
        """
        super().__init__()
        self._state = state
        self._phase = phase
        self._options = options
        self._save = save
        self._on_progress = on_progress
        # Epochs of the phase before, and those of this one that an earlier run has done.
        self._before = len(state.in_phase(0)) if phase else 0
        self._done = len(state.in_phase(phase))
        self._total = self._before + options.epochs[1] if phase else sum(options.epochs)

    def before_epoch(self) -> None:
        """Draw its random numbers, and count from zero."""
        seed_everything(self.learn, self._options.seed, self._before + self.epoch)
        self._started = time.perf_counter()
        self._sums = {True: np.zeros(2), False: np.zeros(2)}
        self._right = 0

    def after_batch(self) -> None:
        """Count its losses, and tell how far the training is."""
        count, loss = len(self.y), self.loss.item()
        self._sums[self.training] += loss * count, count
        losses = self._state.losses
        if self.training:
            losses.append(loss)
        else:
            self._right += int((self.pred.argmax(1) == self.y).sum())
        batches = len(self.dls.train) + len(self.dls.valid)
        self._on_progress(
            Progress(
                phase=self._phase,
                epoch=self._before + self.epoch + 1,
                epochs=self._total,
                batch=self.iter + 1 + (0 if self.training else len(self.dls.train)),
                batches=batches,
                loss=losses[-1],
                last=self._state.epochs[-1] if self._state.epochs else None,
            )
        )

    def after_epoch(self) -> None:
        """Add what it came to, unless an earlier run has done it."""
        if self.epoch < self._done:
            return
        state = self._state
        (trained, n), (checked, count) = self._sums[True], self._sums[False]
        state.epochs.append(
            Epoch(
                phase=self._phase,
                training_loss=float(trained / max(n, 1)),
                validation_loss=float(checked / count),
                accuracy=float(self._right / count),
                seconds=time.perf_counter() - self._started,
            )
        )
        weights = self.model.state_dict()
        state.weights = weights
        state.optimizer = [dict(self.opt.state[p]) for p, *_ in self.opt.all_params()]
        if not is_stuck(state.epochs, 1):
            state.best_weights = {name: t.detach().clone() for name, t in weights.items()}
        self._save()
        if is_stuck(state.in_phase(self._phase), self._options.patience):
            raise CancelFitException


def seed_everything(learner: Any, seed: int, epoch: int) -> None:
    """Let all random numbers that follow depend on the seed and the epoch's number alone."""
    numbers = np.random.SeedSequence([seed, epoch]).generate_state(4)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[1]))  # fastai draws from it
    torch.manual_seed(int(numbers[2]))
    learner.dls.train.rng = random.Random(int(numbers[3]))
