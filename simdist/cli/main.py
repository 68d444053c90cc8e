"""The command line: the commands, and how errors end them."""

from __future__ import annotations

import errno
import io
import sys
from typing import Annotated

import typer
from rich.console import Console

import simdist
from simdist.cli.check import check
from simdist.cli.collections import collections
from simdist.cli.convert import convert
from simdist.cli.duplicates import duplicates
from simdist.cli.eval import evaluate
from simdist.cli.failures import failures
from simdist.cli.help import Command
from simdist.cli.images import images
from simdist.cli.ingest import ingest
from simdist.cli.interrupts import Interrupts, noted_interrupts
from simdist.cli.neighbours import neighbours
from simdist.cli.offload import offload
from simdist.cli.plan import plan
from simdist.cli.reembed import reembed
from simdist.cli.rehash import rehash
from simdist.cli.remedies import with_remedy
from simdist.cli.search import search
from simdist.cli.serve import serve
from simdist.cli.status import status
from simdist.cli.thumbnails import thumbnails
from simdist.cli.train import train
from simdist.cli.transfer import export, import_
from simdist.cli.tune import tune
from simdist.errors import SimdistError

INTERRUPTED = 130
STOPPED = "stopped; run the same command again to go on"

app = typer.Typer(
    name="simdist",
    no_args_is_help=True,
    add_completion=False,
    # Plain: paragraphs are wrapped as one, and brackets are not taken for markup.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(ingest)
app.command(cls=Command)(search)
app.command(cls=Command)(duplicates)
app.command(cls=Command)(neighbours)
app.command(cls=Command)(serve)
app.command(cls=Command)(failures)
app.command(cls=Command)(status)
app.add_typer(collections, name="collections")
app.add_typer(images, name="images")
app.command(cls=Command)(export)
app.command("import", cls=Command)(import_)
app.command(cls=Command)(check)
app.command(cls=Command)(tune)
app.command(cls=Command)(rehash)
app.command(cls=Command)(thumbnails)
app.command(cls=Command)(offload)
app.command(cls=Command)(reembed)
app.command(cls=Command)(train)
app.command(cls=Command)(convert)
app.command("eval", cls=Command)(evaluate)
app.command(cls=Command)(plan)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simdist {simdist.__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the stack trace of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Index huge image collections and find the similar images in them."""


def main() -> None:
    """Run the command line; an error is one sentence on stderr, and the exit code says its kind."""
    # Typer handles neither of these before the commands run, so the flag is looked for here.
    debug = "--debug" in sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal cannot show must not end the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    with noted_interrupts() as interrupts:
        _run(interrupts, debug=debug)


def _run(interrupts: Interrupts, *, debug: bool) -> None:
    try:
        app()
    except SystemExit as stop:
        # What Typer makes of Ctrl-C, without a word.
        if stop.code == INTERRUPTED:
            _complain(STOPPED)
        raise
    except SimdistError as error:
        if debug:
            raise
        _complain(with_remedy(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        # A library that Ctrl-C interrupts may raise an error of its own, as numba's compiler does.
        if interrupts.came:
            _complain(STOPPED)
            sys.exit(INTERRUPTED)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _complain(f"the disk is full ({error}): make room, then run the same command again")
            sys.exit(1)
        _complain(f"{type(error).__name__}: {error}; this is a defect: report it with --debug")
        sys.exit(1)


def _complain(message: str) -> None:
    console = Console(stderr=True, soft_wrap=True)
    console.print("[bold red]error:[/]", end=" ")
    console.print(message, markup=False, highlight=False)
