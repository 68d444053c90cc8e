"""fastai's part of a training, on a network small enough to train in no time."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import ModelError
from simdist.training.checkpoint import Checkpoint, Epoch, is_stuck
from simdist.training.job import Progress, TrainingOptions
from simdist.training.learner import Data, find_learning_rate, fit, make_learner
from simdist.training.loss import add_proxies, proxies_of, without_proxies

pytestmark = pytest.mark.slow

SIZE, CLASSES = 16, 3
PREPROCESSING = Preprocessing(SIZE, (120.0, 120.0, 120.0), (60.0, 60.0, 60.0))
EPOCHS = (2, 3)


options = partial(TrainingOptions, "efficientnet-lite0")


def network() -> nn.Sequential:
    """A body and a head, with all that has a state or draws at random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        )
        head = nn.Sequential(
            OrderedDict[str, nn.Module](
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                norm1=nn.BatchNorm1d(8),
                hidden=nn.Linear(8, 16),
                relu=nn.ReLU(),
                norm2=nn.BatchNorm1d(16),
                dropout=nn.Dropout(0.2),
                classes=nn.Linear(16, CLASSES),
            )
        )
        whole = nn.Sequential(OrderedDict(body=body, head=head))
        add_proxies(whole, CLASSES, dim=16)
    return whole


@pytest.fixture(scope="module")
def data() -> Data:
    """Noise, brighter in one channel or another: 33 pictures, so that batches do not come out."""
    generator = np.random.default_rng(0)
    labels = np.arange(33) % CLASSES
    pixels = generator.integers(0, 150, (33, SIZE, SIZE, 3), np.uint8)
    pixels[np.arange(33), ..., labels] += 105
    return Data(pixels, labels, np.arange(24), np.arange(24, 33))


def run(
    data: Data,
    path: Path,
    *,
    stop: Callable[[Progress], bool] = lambda _: False,
    patience: int = 9,
) -> Checkpoint:
    """Train, from the checkpoint where there is one, as `training.train` does."""
    learner = make_learner(network(), data, PREPROCESSING, batch=5, device="cpu")
    state = Checkpoint.read(path) if path.exists() else Checkpoint(1e-2)

    def show(progress: Progress) -> None:
        if stop(progress):
            raise KeyboardInterrupt

    fit(
        learner,
        state,
        options(epochs=EPOCHS, seed=7, patience=patience),
        after_epoch=lambda: state.write(path),
        on_progress=show,
    )
    return state


def stopping_at(epoch: int, batch: int) -> Callable[[Progress], bool]:
    return lambda progress: (progress.epoch, progress.batch) == (epoch, batch)


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    return (
        one.losses == other.losses
        and one.weights.keys() == other.weights.keys()
        and all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        and all(
            torch.equal(one.best_weights[name], other.best_weights[name])
            for name in one.best_weights
        )
    )


@pytest.fixture(scope="module")
def undisturbed(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return run(data, tmp_path_factory.mktemp("undisturbed") / "checkpoint.pt")


def test_it_learns(undisturbed: Checkpoint) -> None:
    assert [epoch.phase for epoch in undisturbed.epochs] == [0, 0, 1, 1, 1]
    assert undisturbed.epochs[-1].validation_loss < undisturbed.epochs[0].validation_loss
    assert undisturbed.epochs[-1].accuracy > 0.6
    assert len(undisturbed.losses) == 5 * (24 // 5)


def test_it_comes_to_the_same_wherever_it_is_stopped(
    data: Data, undisturbed: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    for epoch in range(1, sum(EPOCHS) + 1):
        # Once in the training and once in the validation of each epoch.
        for batch in (2, 5):
            with pytest.raises(KeyboardInterrupt):
                run(data, path, stop=stopping_at(epoch, batch))
        if epoch < sum(EPOCHS):
            with pytest.raises(KeyboardInterrupt):
                run(data, path, stop=stopping_at(epoch + 1, 1))
    assert equal(run(data, path), undisturbed)
    # Nothing is left to do.
    assert equal(run(data, path, stop=lambda _: True), undisturbed)


def test_another_seed_or_a_lost_optimizer_comes_to_something_else(
    data: Data, undisturbed: Checkpoint, tmp_path: Path
) -> None:
    """What the test above compares does depend on what is restored."""
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, path, stop=lambda progress: progress.epoch == 5)
    state = Checkpoint.read(path)
    state.optimizer = [{} for _ in state.optimizer]
    learner = make_learner(network(), data, PREPROCESSING, batch=5, device="cpu")
    fit(
        learner,
        state,
        options(epochs=EPOCHS, seed=7, patience=9),
        after_epoch=lambda: None,
        on_progress=lambda _: None,
    )
    assert not equal(state, undisturbed)


def test_the_embeddings_of_a_class_come_to_lie_side_by_side(
    data: Data, undisturbed: Checkpoint
) -> None:
    """And at their proxy, which only the second part of the loss sees."""
    trained = network()
    trained.load_state_dict(dict(undisturbed.best_weights))
    right = []
    for model in (network(), trained):
        learner = make_learner(model, data, PREPROCESSING, batch=5, device="cpu")
        images, labels = (torch.cat(part) for part in zip(*learner.dls.valid, strict=True))
        head = model.get_submodule("head")
        assert isinstance(head, nn.Sequential)
        embeddings = nn.Sequential(model.get_submodule("body"), head[:5]).eval()(images)
        proxies = nn.functional.normalize(proxies_of(model))
        cosines = nn.functional.normalize(embeddings) @ proxies.T
        right.append(float((cosines.argmax(1) == labels).float().mean()))
    assert right[1] > 0.6 > right[0]
    assert without_proxies(undisturbed.weights).keys() < undisturbed.weights.keys()


def test_first_only_the_head_changes_then_everything(data: Data, tmp_path: Path) -> None:
    before = copy.deepcopy(network().state_dict())
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        run(data, path, stop=lambda progress: progress.phase == 1)
    weights = Checkpoint.read(path).weights
    for name, tensor in before.items():
        assert torch.equal(weights[name], tensor) == name.startswith("body."), name
    after = run(data, path).weights
    changed = [name for name in before if name.startswith("body.")]
    assert not any(torch.equal(after[name], before[name]) for name in changed)


def test_the_first_layers_learn_more_slowly(data: Data) -> None:
    learner = make_learner(network(), data, PREPROCESSING, batch=5, device="cpu")
    seen: list[list[float]] = []
    fit(
        learner,
        Checkpoint(1e-2),
        options(epochs=(0, 1), seed=0, patience=9),
        after_epoch=lambda: None,
        on_progress=lambda _: seen.append([group["lr"] for group in learner.opt.hypers]),
    )
    highest = np.array(seen).max(axis=0)
    assert highest[2] == pytest.approx(5e-3, rel=0.1)
    assert highest[0] == pytest.approx(highest[2] / 30, rel=0.01)
    assert highest[0] < highest[1] < highest[2]
    # One cycle: up, and down again.
    rates = [row[2] for row in seen]
    assert rates[0] < max(rates) > rates[-1]


def test_a_phase_ends_with_the_epoch_that_is_not_better(data: Data, tmp_path: Path) -> None:
    """Checked against wrong labels, the network becomes worse the more it learns."""
    wrong = data.labels.copy()
    wrong[data.validation] = (wrong[data.validation] + 1) % CLASSES
    misled = replace(data, labels=wrong)
    patient = run(misled, tmp_path / "patient.pt")
    assert len(patient.in_phase(1)) == EPOCHS[1]
    losses = [epoch.validation_loss for epoch in patient.in_phase(1)]
    assert losses[1] > losses[0]
    state = run(misled, tmp_path / "checkpoint.pt", patience=1)
    assert [epoch.validation_loss for epoch in state.in_phase(1)] == losses[:2]


def test_patience() -> None:
    worse = [Epoch(0, 1, loss, 0, 0) for loss in (3, 2, 2.5, 2.1)]
    assert [is_stuck(worse, patience) for patience in (1, 2, 3)] == [True, True, False]
    assert not is_stuck([], 1)


def test_the_finder_suggests_a_rate_and_leaves_the_network_alone(data: Data) -> None:
    learner = make_learner(network(), data, PREPROCESSING, batch=5, device="cpu")
    before = copy.deepcopy(learner.model.state_dict())
    rate = find_learning_rate(learner, seed=0)
    assert 1e-6 < rate < 10
    after: dict[str, Tensor] = learner.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    again = make_learner(network(), data, PREPROCESSING, batch=5, device="cpu")
    assert find_learning_rate(again, seed=0) == rate


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_damaged_checkpoint_says_what_to_do(
    keep: int, undisturbed: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    undisturbed.write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"checkpoint.pt is damaged: delete it"):
        Checkpoint.read(path)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path.mkdir, (tmp_path / "trap",)  # type: ignore[return-value]

    torch.save({"epochs": Hostile()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="is damaged"):
        Checkpoint.read(tmp_path / "checkpoint.pt")
    assert not (tmp_path / "trap").exists()
