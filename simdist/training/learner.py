"""fastai's part of a training: data loaders, the learner, the two phases."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.embedding.backbones import Preprocessing
from simdist.images.limits import Pixels
from simdist.training.checkpoint import Checkpoint, Epoch
from simdist.training.loss import EmbeddingLoss, proxies_of

if TYPE_CHECKING:
    from torch import nn

# Learning rates of the body's first layers, as a share of the head's, when everything is trained.
_DISCRIMINATION = 30
_WORKERS = 8


@dataclass(frozen=True)
class Data:
    """What is learned from: pixels and classes, in two parts.

    Attributes:
        pixels: (n, size, size, 3) uint8.
        labels: (n,) numbers of classes.
        training, validation: indices into both.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


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


@contextmanager
def quiet_fastai() -> Iterator[None]:
    """fastai warns of its own ways, when it is imported and when it works; nobody here can help."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"(fastai|torch|fastcore)\.")
        yield


def make_learner(
    network: nn.Module, data: Data, preprocessing: Preprocessing, *, batch: int, device: str
) -> Any:
    """A fastai learner for a network with a body, a head, and proxies (see `loss`).

    Pictures are turned, zoomed, warped, lit and flipped at random, as fastai's `aug_transforms`
    does by default. Its parameters are in three groups: two of the body, and the head.
    """
    with quiet_fastai():
        # These give the learner methods.
        for module in ("fp16", "schedule"):
            import_module(f"fastai.callback.{module}")
        from fastai.data.core import DataLoaders
        from fastai.learner import Learner

        loaders = DataLoaders(
            _loader(data, data.training, preprocessing, batch=batch, device=device, train=True),
            _loader(data, data.validation, preprocessing, batch=batch, device=device, train=False),
            device=device,
        )
        loss = EmbeddingLoss(network)
        learner = Learner(loaders, network, loss_func=loss, splitter=_groups, train_bn=False)
        learner.remove_cbs([cb for cb in learner.cbs if cb.name == "progress"])
        return learner.to_fp16() if device != "cpu" else learner


def _loader(
    data: Data,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    batch: int,
    device: str,
    train: bool,
) -> Any:
    import torch
    from fastai.data.core import TfmdDL
    from fastai.data.transforms import IntToFloatTensor, Normalize
    from fastai.vision.augment import aug_transforms
    from fastai.vision.core import TensorImage

    class Images:
        """Pictures and the numbers of their classes, as fastai's transforms know them."""

        # Transforms that are for training only look at this.
        split_idx = 0 if train else 1
        # The images, and not the labels, are what the network is given. Where this is not said,
        # fastai finds out at the first batch, and draws random numbers for it.
        n_inp = 1

        def __len__(self) -> int:
            return len(indices)

        def __getitem__(self, place: int) -> tuple[Any, torch.Tensor]:
            index = indices[place]
            pixels = torch.from_numpy(np.array(data.pixels[index])).permute(2, 0, 1)
            return TensorImage(pixels), torch.tensor(data.labels[index])

    mean, std = ([value / 255 for value in row] for row in (preprocessing.mean, preprocessing.std))
    return TfmdDL(
        Images(),
        bs=min(batch, len(indices)),
        shuffle=train,
        drop_last=train,
        # On a CPU the network needs all cores; a GPU is fed by other processes.
        num_workers=0 if device == "cpu" else _WORKERS,
        device=torch.device(device),
        after_batch=[
            IntToFloatTensor(),
            *aug_transforms(size=preprocessing.size),
            Normalize.from_stats(mean, std, cuda=device != "cpu"),
        ],
    )


def _groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of the body's first half, of its second, and of the head and the proxies."""
    body = list(network.get_submodule("body").parameters())
    head = list(network.get_submodule("head").parameters())
    half = len(body) // 2
    return [body[:half], body[half:], [*head, proxies_of(network)]]


def find_learning_rate(learner: Any, *, seed: int) -> float:
    """The learning rate that fastai's finder suggests for the head; the network stays as it is."""
    import tempfile

    with quiet_fastai(), tempfile.TemporaryDirectory() as folder:
        from fastai.callback.schedule import valley

        learner.path = Path(folder)
        seed_everything(learner, seed, 0)
        learner.freeze()
        with learner.added_cbs(_body_at_rest()):
            suggested = learner.lr_find(show_plot=False, suggest_funcs=valley)
        learner.opt = None
        return float(suggested.valley)


def fit(
    learner: Any,
    state: Checkpoint,
    *,
    epochs: tuple[int, int],
    seed: int,
    patience: int,
    after_epoch: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Train the head, then everything, from where `state` is; it is brought up to date each epoch.

    Each phase has one cycle of learning rates. A phase ends early when the validation loss has not
    become lower for `patience` epochs.
    """
    if state.weights:
        learner.model.load_state_dict(dict(state.weights))
    for phase, count in enumerate(epochs):
        done = state.in_phase(phase)
        if len(done) == count or is_stuck(done, patience) or state.in_phase(phase + 1):
            continue
        learner.opt = None
        if phase == 0:
            learner.freeze()
            rate: float | slice = state.learning_rate
        else:
            learner.unfreeze()
            rate = slice(state.learning_rate / 2 / _DISCRIMINATION, state.learning_rate / 2)
        if done:
            learner.opt.load_state_dict({"state": state.optimizer, "hypers": learner.opt.hypers})
        recording = _recording(
            state,
            phase=phase,
            epochs=epochs,
            seed=seed,
            patience=patience,
            after_epoch=after_epoch,
            on_progress=on_progress,
        )
        with quiet_fastai(), learner.no_logging(), learner.no_mbar():
            callbacks = [recording] if phase else [recording, _body_at_rest()]
            learner.fit_one_cycle(count, rate, cbs=callbacks, start_epoch=len(done))


def is_stuck(epochs: Sequence[Epoch], patience: int) -> bool:
    """Whether the lowest validation loss is `patience` epochs ago."""
    losses = [epoch.validation_loss for epoch in epochs]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def seed_everything(learner: Any, seed: int, epoch: int) -> None:
    """Let all random numbers that follow depend on the seed and the epoch's number alone."""
    import torch

    numbers = np.random.SeedSequence([seed, epoch]).generate_state(4)
    random.seed(int(numbers[0]))
    np.random.seed(int(numbers[1]))  # fastai draws from it
    torch.manual_seed(int(numbers[2]))
    learner.dls.train.rng = random.Random(int(numbers[3]))


def _body_at_rest() -> Any:
    """A callback for a body that is not trained: no dropout, no new statistics."""
    from fastai.callback.core import Callback

    class BodyAtRest(Callback):  # type: ignore[misc]
        order = 0  # behind what puts the network into training mode

        def before_train(self) -> None:
            self.model.body.eval()

    return BodyAtRest()


def _recording(
    state: Checkpoint,
    *,
    phase: int,
    epochs: tuple[int, int],
    seed: int,
    patience: int,
    after_epoch: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> Any:
    """A callback that keeps `state` up to date, and prepares each epoch."""
    from fastai.callback.core import Callback, CancelFitException

    before = len(state.in_phase(0)) if phase else 0
    total = before + epochs[1] if phase else sum(epochs)
    losses = state.losses
    done = len(state.in_phase(phase))

    class Recording(Callback):  # type: ignore[misc]
        # Behind everything else: of an epoch that is skipped it sees nothing but the end.
        order = 90

        def before_epoch(self) -> None:
            seed_everything(self.learn, seed, before + self.epoch)
            self.started = time.perf_counter()
            self.sums = {True: np.zeros(2), False: np.zeros(2)}
            self.right = 0

        def after_batch(self) -> None:
            count = len(self.y)
            self.sums[self.training] += self.loss.item() * count, count
            if self.training:
                losses.append(self.loss.item())
            else:
                self.right += int((self.pred.argmax(1) == self.y).sum())
            batches = len(self.dls.train) + len(self.dls.valid)
            batch = self.iter + 1 + (0 if self.training else len(self.dls.train))
            last = state.epochs[-1] if state.epochs else None
            on_progress(
                Progress(phase, before + self.epoch + 1, total, batch, batches, losses[-1], last)
            )

        def after_epoch(self) -> None:
            if self.epoch < done:
                return
            (trained, n), (checked, count) = self.sums[True], self.sums[False]
            seconds = time.perf_counter() - self.started
            result = Epoch(
                *(phase, float(trained / max(n, 1)), float(checked / count)),
                *(float(self.right / count), seconds),
            )
            state.epochs.append(result)
            weights = self.model.state_dict()
            state.weights = weights
            state.optimizer = [dict(self.opt.state[p]) for p, *_ in self.opt.all_params()]
            if not is_stuck(state.epochs, 1):
                state.best_weights = {name: t.detach().clone() for name, t in weights.items()}
            after_epoch()
            if is_stuck(state.in_phase(phase), patience):
                raise CancelFitException

    return Recording()
