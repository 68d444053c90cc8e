"""imagededup's perceptual hashes and network, and pdqhash, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.index_measure import note

_WORKER = Path(__file__).parent / "hashes_worker.py"
_PACKAGES = ("imagededup==0.3.3.post2", "pdqhash==0.2.8")


@dataclass(frozen=True)
class Peer:
    """What a peer made of n pictures.

    Attributes:
        values: (n, d) uint8 bits, or float32 vectors of length 1.
        least: how much two pictures must be alike for it to call them copies, by default.
        rule: the same in its own words.
        seconds: of a core, for all of them.
    """

    name: str
    values: NDArray[np.uint8] | NDArray[np.float32]
    least: float
    rule: str
    seconds: float

    def likeness(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """(m, n) how much images are like all: cosines; of bits, 1 less twice those that differ."""
        vectors = self.values.astype(np.float32)
        if self.values.dtype == np.uint8:
            vectors = (vectors * 2 - 1) / np.float32(vectors.shape[1]) ** 0.5
        found: NDArray[np.float32] = vectors[images] @ vectors.T
        return found


def hashed(files: Sequence[bytes], folder: Path) -> Iterator[Peer]:
    """What each peer makes of pictures; those that cannot be had are left out, with a note."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, data in enumerate(files):
        (pictures / f"{number:06}.jpg").write_bytes(data)
    packages = [argument for package in _PACKAGES for argument in ("--with", package)]
    command = [str(Path(sys.executable).parent / "uv"), "run", "--quiet", "--no-project"]
    command += ["--python", sys.executable, *packages, "python", str(_WORKER), str(folder)]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        note(f"imagededup and pdqhash: {done.stderr.strip().splitlines()[-1:]}")
        return
    seconds = time.perf_counter() - started
    note(f"imagededup and pdqhash took {seconds:.0f} s, installation included")
    for line in (folder / "said.jsonl").read_text().splitlines():
        said = json.loads(line)
        if "missing" in said:
            note(f"{said['name']}: {said['missing']}")
            continue
        values = np.load(folder / said["file"])
        yield Peer(said["name"], values, said["least"], said["rule"], said["seconds"])
