"""A user without a home directory, and one for whom nothing can be kept between two commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Becomes a user that the machine does not know, as in a container that is run under any number.
_NOBODY = """
import json, os
import numpy, torch.hub, torchvision.models
from simdist.embedding.torchvision_networks import published_weights
from simdist.errors import ModelError, UsageError
from simdist.settings import Settings
from simdist.vectors.compiled import compiled
os.setgroups([]); os.setgid(54321); os.setuid(54321)
said = []
for wanted in (Settings.resolve, lambda: published_weights("resnet18")):
    try:
        wanted()
    except (UsageError, ModelError) as error:
        said.append(str(error))
from loop import twice
assert compiled()(twice)(2) == 4
print(json.dumps([*said, os.listdir()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_without_a_home_errors_say_what_to_set_and_nothing_is_kept_in_the_working_folder(
    open_folder: Path,
) -> None:
    (open_folder / "loop.py").write_text("def twice(x):\n    return 2 * x\n")
    work = open_folder / "work"
    work.mkdir()
    work.chmod(0o777)
    unknown = ("HOME", "SIMDIST_DATA_DIR", "TORCH_HOME", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    kept = {k: v for k, v in os.environ.items() if k not in (*unknown, "XDG_DATA_HOME")}
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY],
        cwd=work,
        env=kept | {"PYTHONPATH": f"{ROOT}{os.pathsep}{open_folder}"},
        capture_output=True,
        text=True,
        check=True,
    )
    data, weights, left = json.loads(done.stdout)
    assert "SIMDIST_DATA_DIR" in data
    assert "TORCH_HOME" in weights
    assert left == []


@pytest.mark.slow
def test_loops_are_compiled_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """Neither beside the code nor in the home directory."""
    for package in ("simdist", "cluster"):
        copy = tmp_path / package
        shutil.copytree(ROOT / package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
            (folder / "__pycache__").touch()
    code = """
import numpy as np
from simdist.hashing import cell_loops
from simdist.search import chain_loops
from simdist.vectors.rotation import rotated, unrotated
rows = np.ones((2, 8), np.float32)
assert np.allclose(unrotated(rotated(rows)), rows)
"""
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"HOME": "/proc", "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": "/proc/cache"}
    subprocess.run([sys.executable, "-B", "-c", code], cwd=tmp_path, env=environment, check=True)
