"""Hashes the pictures of a folder with imagededup and pdqhash: run in their environment.

Writes what each method made, and a line of JSON on it, beside the pictures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# imagededup's default: 10 of 64 bits may differ; its network's least cosine; PDQ's 31 of 256.
BITS, COSINE, PDQ = 10, 0.9, 31


def main(folder: Path) -> None:
    import pdqhash
    from imagededup import methods
    from PIL import Image

    paths = sorted((folder / "pictures").iterdir())

    def pdq(path: Path) -> Any:
        return pdqhash.compute(np.asarray(Image.open(path).convert("RGB")))[0]

    for name in ("PHash", "DHash", "AHash", "WHash"):
        method = getattr(methods, name)(verbose=False)

        def bits(path: Path, method: Any = method) -> Any:
            return [int(bit) for bit in f"{int(method.encode_image(image_file=path), 16):064b}"]

        _hash(folder, f"imagededup {name}", paths, bits, BITS)
    _hash(folder, "pdqhash", paths, pdq, PDQ)
    try:
        network = methods.CNN(verbose=False)
    except Exception as error:
        _say(folder, {"name": "imagededup CNN", "missing": f"its weights: {error}"})
        return
    started = time.process_time()
    made = np.concatenate([network.encode_image(image_file=path) for path in paths])
    vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    rule = {"least": COSINE, "rule": f"cosine >= {COSINE}"}
    _keep(folder, "imagededup CNN", vectors, rule | {"seconds": time.process_time() - started})


def _hash(
    folder: Path, name: str, paths: list[Path], bits: Callable[[Path], Any], most: int
) -> None:
    started = time.process_time()
    made = np.array([bits(path) for path in paths], np.uint8)
    least = 1 - 2 * most / made.shape[1] - 1e-6
    rule = {"least": least, "rule": f"at most {most} of {made.shape[1]} bits"}
    _keep(folder, name, made, rule | {"seconds": time.process_time() - started})


def _keep(folder: Path, name: str, made: np.ndarray[Any, Any], rule: dict[str, Any]) -> None:
    file = f"{name.replace(' ', '-')}.npy"
    np.save(folder / file, made)
    _say(folder, {"name": name, "file": file} | rule)


def _say(folder: Path, said: dict[str, Any]) -> None:
    with (folder / "said.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
