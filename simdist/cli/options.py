"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simdist.settings import RAY_ADDRESS_VARIABLE, REDIS_URL_VARIABLE

CollectionName = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection to use.")
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help=f"A Redis or Valkey server [env var: {REDIS_URL_VARIABLE}]. "
        "Without it simdist runs one of its own, private to you.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help=f"A Ray cluster to join [env var: {RAY_ADDRESS_VARIABLE}]. "
        "Without it Ray runs on this machine.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="SIMDIST_WEIGHTS",
        help="Weights (.safetensors or .pth) in place of the model's published ones.",
    ),
]
