"""The command line as users have it, in steps so small that a fault can hit one of many.

python -m tests.cluster.driver apart|together ingest ...
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import pytest

from cluster.ingest import pipeline
from cluster.ingest.stages import EmbedActor, Placement
from simdist.cli.main import main
from simdist.embedding import Model, embedder
from simdist.ingest import committer

# Whether decoders work apart from the actors, as they do where there are GPUs, or actors decode.
Layout = Literal["apart", "together"]
LAYOUTS: tuple[Layout, ...] = ("apart", "together")

SHARD = 4
_placement_of = Placement.of


class SmallStepActor(EmbedActor):
    """Embeds image by image: with some CPUs the last bits of a vector depend on its batch."""

    def load(self, model: Model) -> None:
        embedder.CPU_BATCH = 1
        super().load(model)


def take_small_steps(patch: pytest.MonkeyPatch, layout: Layout) -> None:
    """Let this process's pipelines have many small shards, laid out as said."""

    def placement_of(resources: Mapping[str, float], **options: int | None) -> Placement:
        gpus = resources.get("GPU", 0) if layout == "apart" else 0
        return replace(_placement_of({**resources, "GPU": gpus}, **options), shard_size=SHARD)

    patch.setattr(Placement, "of", placement_of)
    patch.setattr(pipeline, "EmbedActor", SmallStepActor)
    patch.setattr(committer, "COMMIT_SECONDS", 0.0)


if __name__ == "__main__":
    # What is started in the background is deaf to Ctrl-C, and so are all its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = sys.argv.pop(1)
    take_small_steps(pytest.MonkeyPatch(), "apart" if chosen == "apart" else "together")
    main()
