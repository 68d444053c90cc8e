"""fastai's `export.pkl` -> a model bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from simdist.embedding import bundle, head
from simdist.embedding.backbones import backbone
from simdist.embedding.model import Model, save_bundle
from simdist.embedding.preprocessing import Preprocessing
from simdist.errors import ModelError, Remedy, UsageError
from simdist.training.learner import check_fastai, quiet_fastai

if TYPE_CHECKING:
    from torch import Tensor, nn

# How far two networks' scores may be apart, as a share of the largest.
_ROUNDING = 1e-3


def convert(export: Path, out: Path, *, arch: str, trust: bool) -> Model:
    """Write the model of a learner that fastai exported as a bundle.

    It must have been made with `vision_learner`, of a backbone that simdist knows, with fastai's
    own head. **Unpickling runs whatever code the file holds.**

    Args:
        export: what `Learner.export` wrote.
        arch: the backbone's name.
        trust: whether the file comes from somebody whose code may run here.

    Raises:
        UsageError: it is not trusted, or the backbone cannot have a head.
        ModelError: it cannot be read, or is another network; the bundle exists; or fastai is
            missing.
    """
    if not trust:
        raise UsageError(
            f"{export} is a pickle: reading it runs whatever code is in it, with all that you are "
            "allowed to do: convert it only if you know who made it, and trust them",
            remedy=Remedy.TRUST,
        )
    known = backbone(arch)
    head.check_trainable(known)
    bundle.check_out(out)
    check_fastai()
    learner = _load(export)
    classes = _classes(learner, export)
    network = head.with_head(known, len(classes))
    weights = _renamed(learner.model.state_dict(), network, export, arch)
    network.load_state_dict(weights)
    preprocessing = _preprocessing(learner, known.preprocessing)
    if not _same(learner.model, network, preprocessing.size):
        raise ModelError(
            f"the network in {export} has the weights of a {arch} with fastai's head, but computes "
            "something else with them: it cannot be converted"
        )
    model = Model(known.name, weights, preprocessing, head.TAP, classes)
    with bundle.whole(out) as folder:
        save_bundle(model, folder, about={"converted_from": export.name})
    return model


def _load(export: Path) -> Any:
    if not export.is_file():
        raise ModelError(f"cannot read {export}: there is no such file")
    import warnings

    with quiet_fastai(), warnings.catch_warnings():
        # It says what `trust` is for.
        warnings.filterwarnings("ignore", message="load_learner")
        from fastai.learner import load_learner

        try:
            learner = load_learner(export)
        # Unpickling raises nearly anything; all of it means the same here.
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{export} cannot be read as an exported learner: {reason}") from error
    if not hasattr(learner, "model") or not hasattr(learner, "dls"):
        raise ModelError(f"{export} holds no fastai learner")
    return learner


def _classes(learner: Any, export: Path) -> tuple[str, ...]:
    try:
        classes = tuple(str(name) for name in learner.dls.vocab)
    except (AttributeError, TypeError) as error:
        raise ModelError(f"the learner in {export} tells no categories apart") from error
    if len(classes) < 2:
        raise ModelError(f"the learner in {export} knows fewer than two categories")
    return classes


def _renamed(
    theirs: dict[str, Tensor], network: nn.Module, export: Path, arch: str
) -> dict[str, Tensor]:
    """Their weights under our names: both are in the order of the layers."""
    ours = network.state_dict()
    fitting = len(ours) == len(theirs) and all(
        one.shape == other.shape for one, other in zip(ours.values(), theirs.values(), strict=True)
    )
    if not fitting:
        raise ModelError(
            f"the network in {export} is not a {arch} with fastai's head: name the network that it "
            "is",
            remedy=Remedy.ARCH,
        )
    return {
        name: tensor.detach().cpu().float() if tensor.is_floating_point() else tensor.cpu()
        for name, tensor in zip(ours, theirs.values(), strict=True)
    }


def _preprocessing(learner: Any, usual: Preprocessing) -> Preprocessing:
    """What the learner's transforms do to a picture for validation."""
    from fastai.data.transforms import Normalize

    size, mean, std = usual.size, (0.0, 0.0, 0.0), (255.0, 255.0, 255.0)
    for steps in (learner.dls.valid.after_item, learner.dls.valid.after_batch):
        for step in steps.fs:
            wanted = getattr(step, "size", None)
            if wanted is not None:
                size = int(wanted if isinstance(wanted, int) else wanted[0])
            if isinstance(step, Normalize):
                mean, std = _channels(step.mean), _channels(step.std)
    return Preprocessing(size, mean, std)


def _channels(values: Any) -> tuple[float, float, float]:
    """Of a tensor on the 0 to 1 scale."""
    red, green, blue = (255 * float(value) for value in values.flatten())
    return red, green, blue


def _same(theirs: nn.Module, ours: nn.Module, size: int) -> bool:
    """Whether two networks compute the same."""
    import torch

    inputs = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        one, other = theirs.eval().cpu().float()(inputs), ours.eval()(inputs)
    return bool((one - other).abs().max() <= _ROUNDING * one.abs().max())
