"""fastai's part of a training: data loaders, the learner, the two phases."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import ModelError
from simdist.images.limits import Pixels
from simdist.training.checkpoint import Checkpoint, is_stuck
from simdist.training.job import Progress, TrainingOptions
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


def check_fastai() -> None:
    """Raise ModelError where fastai is not installed, before there is work to lose."""
    if find_spec("fastai") is None:
        raise ModelError("this needs fastai: pip install 'simdist[train]'")


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

        def __getitem__(self, number: int) -> tuple[Any, torch.Tensor]:
            index = indices[number]
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

        from simdist.training.recording import BodyAtRest, seed_everything

        learner.path = Path(folder)
        seed_everything(learner, seed, 0)
        learner.freeze()
        with learner.added_cbs(BodyAtRest()):
            suggested = learner.lr_find(show_plot=False, suggest_funcs=valley)
        learner.opt = None
        return float(suggested.valley)


def fit(
    learner: Any,
    state: Checkpoint,
    options: TrainingOptions,
    *,
    after_epoch: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Train the head, then everything, from where `state` is; it is brought up to date each epoch.

    Each phase has one cycle of learning rates. A phase ends early when the validation loss has not
    become lower for `options.patience` epochs.
    """
    if state.weights:
        learner.model.load_state_dict(dict(state.weights))
    for phase, count in enumerate(options.epochs):
        done = state.in_phase(phase)
        stuck = is_stuck(done, options.patience)
        if len(done) == count or stuck or state.in_phase(phase + 1):
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
        with quiet_fastai(), learner.no_logging(), learner.no_mbar():
            from simdist.training.recording import BodyAtRest, Recording

            callbacks = [Recording(state, phase, options, after_epoch, on_progress)]
            if phase == 0:
                callbacks.append(BodyAtRest())
            learner.fit_one_cycle(count, rate, cbs=callbacks, start_epoch=len(done))
