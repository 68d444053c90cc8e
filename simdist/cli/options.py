"""Options that several commands share, and the sections of help that they stand in."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from simdist.errors import UsageError
from simdist.settings import RAY_ADDRESS_VARIABLE, REDIS_PASSWORD_VARIABLE, REDIS_URL_VARIABLE
from simdist.sources import LabelFrom

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB)", re.IGNORECASE)
WHICH_IMAGES = "Which images"
OBJECT_STORES = "Object stores"
WHERE = "Where it runs"
OUTPUT = "Output"
WHICH_DUPLICATES = "Which duplicates"
REMOVING = "What becomes of the others"
DECISIONS = "Decisions, which are kept with the collection"
WHICH_NEIGHBOURS = "Which neighbours"


class ProgressAs(StrEnum):
    """How progress is shown."""

    text = "text"
    json = "json"


CollectionName = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="Collection to use.")
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help=f"The Redis or Valkey server to use [env var: {REDIS_URL_VARIABLE}; its password: "
        f"{REDIS_PASSWORD_VARIABLE}]. By default simdist runs one of its own, private to you.",
        rich_help_panel=WHERE,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help=f"The Ray cluster to join [env var: {RAY_ADDRESS_VARIABLE}]. "
        "By default Ray runs on this machine.",
        rich_help_panel=WHERE,
    ),
]
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Address of the object store, if it is not its provider's own "
        "[env var: AWS_ENDPOINT_URL, GOOGLE_BASE_URL, AZURE_STORAGE_ENDPOINT].",
        rich_help_panel=OBJECT_STORES,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The bucket's region [env var: AWS_REGION].",
        rich_help_panel=OBJECT_STORES,
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Read a public bucket without signing requests.",
        rich_help_panel=OBJECT_STORES,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Index only images whose path below SOURCE, or whose name, matches. Repeatable.",
        rich_help_panel=WHICH_IMAGES,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GLOB",
        help="Leave out images that match. Repeatable.",
        rich_help_panel=WHICH_IMAGES,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Index only the first N images.",
        rich_help_panel=WHICH_IMAGES,
    ),
]
Hidden = Annotated[
    bool,
    typer.Option(
        "--hidden",
        help="Take also hidden files, thumbnails and recycle bins (.*, @eaDir, #recycle).",
        rich_help_panel=WHICH_IMAGES,
    ),
]
LabelSource = Annotated[
    LabelFrom | None,
    typer.Option(
        help="Source of labels; by default the column if there is one, else the folder.",
        rich_help_panel=WHICH_IMAGES,
    ),
]
UriColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of a CSV or Parquet list that names the image.",
        rich_help_panel=WHICH_IMAGES,
    ),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column that holds the label.", rich_help_panel=WHICH_IMAGES),
]
Gpus = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="GPUs to use, one for each actor; by default all. If there are fewer, simdist waits "
        "for an autoscaling cluster to add them. 0: none.",
        rich_help_panel=WHERE,
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Embedding actors on CPUs; by default one for each CPU.",
        rich_help_panel=WHERE,
    ),
]
ProgressForm = Annotated[
    ProgressAs,
    typer.Option(
        "--progress",
        help="Form of progress; json: one JSON object per line, on stderr.",
        rich_help_panel=OUTPUT,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        envvar="SIMDIST_WEIGHTS",
        help="File of weights (.safetensors or .pth) to use instead of the published ones.",
    ),
]
AcceptLicence = Annotated[
    bool,
    typer.Option(
        "--accept-licence",
        help="Use the model also if the licence of its weights forbids commercial use.",
    ),
]
OwnModel = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_BUNDLE",
        help="The model that made the collection; needed only if it is a bundle or a folder.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)]

ThumbnailsFrom = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PREFIX",
        help="Folder or s3://, gs://, az:// prefix whose pictures are shown although no ingest "
        "has read them there: those of lists and saved embeddings. Repeatable.",
    ),
]
ThumbnailSpace = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Disk that thumbnails may take, in the data folder, such as 500MB or 20GB; 0MB to "
        "keep none there.",
    ),
]


def size_of(text: str, *, least: int = 1) -> int:
    """The bytes of a size, such as 512MB.

    Raises:
        UsageError: it is none, or smaller than `least`.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * {"MB": 10**6, "GB": 10**9}[match[2].upper()]) if match else -1
    if size < least:
        raise UsageError(f"{text!r} is not an amount of memory: write 512MB or 4GB")
    return size
