"""OpenVINO in torch's place: the same embeddings, or not used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from simdist.embedding import Embedder, Model
from simdist.embedding.engine import ENGINE_VARIABLE, Forward, compiled
from simdist.images.decoding import decode

SIDE = 96


@pytest.fixture(autouse=True)
def engine_of_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """All other tests have torch only, so that they compare what one engine has embedded."""
    monkeypatch.delenv(ENGINE_VARIABLE)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet34"])
def test_openvino_embeds_as_torch_does(
    name: str, lite0: Model, untrained: Model, photos: list[Path]
) -> None:
    model = {one.backbone: one for one in (lite0, untrained)}[name]
    model = replace(model, preprocessing=replace(model.preprocessing, size=SIDE))
    ours = Embedder(model, device="cpu", full_precision=True)
    theirs = Embedder(model, device="cpu", full_precision=True, for_many=True)
    assert (ours.engine, theirs.engine) == ("torch", "OpenVINO")
    pixels = np.stack([decode(path.read_bytes(), size=SIDE) for path in photos[:5]])
    rows = ours.embed(pixels)
    for count in (0, 1, 3, 5):
        assert np.allclose(theirs.embed(pixels[:count]), rows[:count], atol=1e-5)
    _, scores = ours.classify(pixels)
    assert np.allclose(theirs.classify(pixels)[1], scores, rtol=1e-3, atol=1e-3)
    # What it gave before stays what it was.
    first = theirs.embed(pixels[:1])
    theirs.embed(pixels[1:])
    assert np.allclose(first, rows[:1], atol=1e-5)


def test_openvinos_fast_precision_changes_no_neighbour(lite0: Model, photos: list[Path]) -> None:
    fast = Embedder(lite0, device="cpu", for_many=True)
    rows = fast.embed_files(photos)
    exact = Embedder(lite0, device="cpu", full_precision=True).embed_files(photos)
    assert fast.engine == "OpenVINO"
    assert np.einsum("nd,nd->n", rows, exact).min() > 0.99
    assert ((rows @ exact.T).argmax(axis=1) == np.arange(len(photos))).all()


def test_openvino_can_be_kept_out(lite0: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE_VARIABLE, "torch")
    assert Embedder(lite0, device="cpu", for_many=True).engine == "torch"


def as_by_tracing(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Its number of rows is a constant to whoever traces it."""
    rows = torch.eye(8)[: len(pixels)] + 0 * pixels.float().mean()
    return rows, rows


def by_values(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Which way it goes hangs on pixels, of which a trace knows only the example's."""
    rows = torch.eye(8)[: len(pixels)] if pixels.sum() > 500_000 else torch.eye(8)[-len(pixels) :]
    return rows, rows


def beyond_conversion(_pixels: Tensor) -> tuple[Tensor, Tensor]:
    raise RuntimeError("no graph")


@pytest.mark.parametrize("forward", [as_by_tracing, by_values, beyond_conversion])
def test_what_openvino_cannot_do_is_left_to_torch(forward: Forward) -> None:
    example = torch.full((2, SIDE, SIDE, 3), 10, dtype=torch.uint8)
    run = compiled(forward, example=example, precision=torch.float32, threads=1)
    assert run is None
