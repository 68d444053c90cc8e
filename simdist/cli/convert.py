"""`simdist convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simdist.settings import DEFAULT_MODEL


def convert(
    export: Annotated[
        Path, typer.Argument(metavar="EXPORT.pkl", help="File that fastai's Learner.export wrote.")
    ],
    *,
    arch: Annotated[
        str, typer.Option(metavar="NAME", help="Network that the learner was made from.")
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path, typer.Option(metavar="BUNDLE", help="Folder to write the model into.")
    ] = Path("model"),
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Let the file run whatever code is in it on this machine."),
    ] = False,
) -> None:
    """Turn a learner that fastai exported into a model bundle.

    An exported learner is a pickle, and reading a pickle runs whatever code is in it. A bundle
    contains no code.
    """
    from simdist.training.conversion import convert as run

    model = run(export, out, arch=arch, trust=trust)
    typer.echo(f"{model.id}: {len(model.classes):,} categories")
    typer.echo(f"Next: simdist ingest FOLDER --model {out}")
