"""Licences of weights: which must be accepted, and where they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
from timm.models import get_pretrained_cfg, save_for_hf

from simdist.embedding import Embedder, load_model
from simdist.embedding.licences import forbids_commerce
from simdist.embedding.model import save_bundle
from simdist.errors import Remedy, UsageError

NAME = "test_vit.r160_in1k"


def test_every_licence_of_timm_is_told_apart() -> None:
    found = {(get_pretrained_cfg(name).license or "") for name in timm.list_pretrained()}  # type: ignore[union-attr]
    assert {licence for licence in found if forbids_commerce(licence)} == {
        "apple-amlr",
        "cc-by-nc-4.0",
        "fair-noncommercial-research-license",
        "seer-license",
    }
    assert {"", "apache-2.0", "mit", "dinov3-license", "apple-ascl", "gemma"} <= found


@pytest.mark.parametrize("licence", ["CC-BY-NC-SA-4.0", "cc_by_nc_nd", "some-research-license"])
def test_others_are_known_by_their_parts(licence: str) -> None:
    assert forbids_commerce(licence)


@pytest.mark.parametrize("licence", ["", "unknown", "ncsa", "cc-by-4.0", "bsd-3-clause"])
def test_no_others_are_refused(licence: str) -> None:
    assert not forbids_commerce(licence)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of timm whose licence forbids commercial use."""
    folder = tmp_path / "own"
    save_for_hf(timm.create_model(NAME), str(folder), safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["license"] = "cc-by-nc-4.0"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_licence_that_forbids_commercial_use_must_be_accepted(folder: Path) -> None:
    name = f"timm:local-dir:{folder}"
    for load in (load_model, Embedder.load):
        with pytest.raises(UsageError, match=r"licence cc-by-nc-4\.0, which forbids") as caught:
            load(name)
        assert caught.value.remedy is Remedy.LICENCE
    model = load_model(name, accept_licence=True)
    assert model.licence == "cc-by-nc-4.0"


def test_it_stays_with_a_bundle(folder: Path, tmp_path: Path) -> None:
    model = load_model(f"timm:local-dir:{folder}", accept_licence=True)
    save_bundle(model, tmp_path / "bundle")
    with pytest.raises(UsageError, match="which forbids commercial use"):
        load_model(str(tmp_path / "bundle"))
    copy = load_model(str(tmp_path / "bundle"), accept_licence=True)
    assert (copy.id, copy.licence) == (model.id, model.licence)


def test_it_is_refused_before_anything_is_downloaded() -> None:
    with pytest.raises(UsageError, match="which forbids commercial use"):
        load_model("timm:hiera_tiny_224.mae")
