"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from simdist.settings import RAY_ADDRESS_VARIABLE, REDIS_PASSWORD_VARIABLE, REDIS_URL_VARIABLE
from simdist.sources import LabelFrom


class ProgressAs(StrEnum):
    """How progress is shown."""

    text = "text"
    json = "json"


CollectionName = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection to use.")
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help=f"A Redis or Valkey server [env var: {REDIS_URL_VARIABLE}; its password: "
        f"{REDIS_PASSWORD_VARIABLE}]. Without it simdist runs one of its own, private to you.",
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
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Where the object store is, if not its maker's own [env var: AWS_ENDPOINT_URL, "
        "GOOGLE_BASE_URL, AZURE_STORAGE_ENDPOINT].",
    ),
]
Region = Annotated[
    str | None, typer.Option(metavar="NAME", help="The bucket's region [env var: AWS_REGION].")
]
Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", help="Read a public bucket: requests are not signed."),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Take only images whose path below SOURCE, or whose name, matches. May be repeated.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Leave out images that match. May be repeated."),
]
Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Take the first N images only.")
]
LabelSource = Annotated[
    LabelFrom | None,
    typer.Option(
        help="Where labels come from; by default the column where there is one, else the folder.",
    ),
]
UriColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The column of a CSV or Parquet list that names the image."),
]
LabelColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column that holds the label.")
]
Gpus = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="GPUs to use, one an actor: by default all there are. More are waited for, so that "
        "an autoscaling cluster adds them. 0: none.",
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Embedding actors on CPUs: by default one a CPU."),
]
ProgressForm = Annotated[
    ProgressAs,
    typer.Option("--progress", help="json: a JSON object a line, on stderr."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="SIMDIST_WEIGHTS",
        help="Weights (.safetensors or .pth) in place of the model's published ones.",
    ),
]
