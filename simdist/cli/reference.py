"""The page of all commands and options, docs/commands.md: `python -m simdist.cli.reference`."""

from __future__ import annotations

import sys
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from simdist.cli.main import app

_WIDTH = 92
_INTRODUCTION = """\
# Commands

Every command with all of its options, as `simdist COMMAND --help` shows them. This page is
generated from the code (`make docs`), and a test holds it to the code.
"""


def reference() -> str:
    """The page, in Markdown."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - for mypy
    above = group.make_context("simdist", [], resilient_parsing=True, terminal_width=_WIDTH)
    parts = [_INTRODUCTION, _block(group, above)]
    parts += [part for name in group.commands for part in _parts(group, above, name)]
    return "\n".join(parts)


def _parts(group: TyperGroup, above: Any, name: str, words: str = "") -> list[str]:
    """The sections of a command, or of a group and all commands in it."""
    command, words = group.commands[name], f"{words} {name}"
    context = command.make_context(name, [], parent=above, resilient_parsing=True)
    parts = [f"## simdist{words}\n", _block(command, context)]
    if isinstance(command, TyperGroup):
        parts += [part for one in command.commands for part in _parts(command, context, one, words)]
    return parts


def _block(command: Any, context: Any) -> str:
    return f"```\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
