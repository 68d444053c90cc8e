"""The commands: their help, the page of them all, and what they say where something is wrong."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from simdist import errors
from simdist.cli.help import EXAMPLES
from simdist.cli.main import app
from simdist.cli.reference import reference
from simdist.cli.remedies import with_remedy
from simdist.errors import CollectionError, FetchError, Remedy, ServiceError, SimdistError
from tests.conftest import ROOT

_FLAG = re.compile(r"(?<![-\w])--[a-z]")


def commands() -> dict[str, Any]:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        f"{name} {part}" if part else name: one
        for name, command in group.commands.items()
        for part, one in getattr(command, "commands", {"": command}).items()
    }


def test_the_page_of_commands_is_up_to_date() -> None:
    assert (ROOT / "docs" / "commands.md").read_text() == reference(), "run: make docs"


@pytest.mark.parametrize("name", commands())
def test_every_option_stands_on_the_page(name: str) -> None:
    section = reference().partition(f"## simdist {name}\n")[2].partition("\n## ")[0]
    words = " ".join(section.split())
    for parameter in commands()[name].params:
        for flag in parameter.opts if parameter.param_type_name == "option" else ():
            assert f" {flag}" in section
        assert parameter.help, parameter.name
        assert " ".join(parameter.help.split()) in words
        if parameter.default not in (None, False, ()) and parameter.show_default:
            assert f"[default: {parameter.default!s}" in words, parameter.name
        if parameter.envvar:
            assert parameter.envvar in words


def test_the_list_of_commands_fits_a_terminal_of_80_columns() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    context = group.make_context("simdist", [], resilient_parsing=True, terminal_width=80)
    listed = group.get_help(context).partition("Commands:\n")[2]
    assert [line.split()[0] for line in listed.splitlines()] == list(group.commands)
    assert "..." not in listed


@pytest.mark.parametrize("name", commands())
def test_the_help_of_a_command_fits_a_terminal_of_80_columns(name: str) -> None:
    command = commands()[name]
    context = command.make_context(name, [], resilient_parsing=True, terminal_width=80)
    # Examples are to be copied: they are not wrapped.
    lines = command.get_help(context).partition("\nExamples:\n")[0].splitlines()
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(
    ("name", "usage"), [("search", "[IMAGE...]"), ("ingest", "SOURCE"), ("convert", "EXPORT.pkl")]
)
def test_arguments_have_the_same_name_in_the_usage_and_below_it(name: str, usage: str) -> None:
    section = reference().partition(f"## simdist {name}\n")[2]
    assert f"Usage: simdist {name} [OPTIONS] {usage}\n" in section
    assert f"Arguments:\n  {usage}  " in section


def test_every_command_has_examples_that_it_takes() -> None:
    assert set(EXAMPLES) == set(commands())
    for name, examples in EXAMPLES.items():
        for example in examples:
            words = name.split()
            assert example.split()[: len(words) + 1] == ["simdist", *words]
            arguments = example.split()[len(words) + 1 :]
            commands()[name].make_context(name, arguments, resilient_parsing=True)
            known = {flag for one in commands()[name].params for flag in one.opts}
            assert {word for word in arguments if word.startswith("-")} <= known


@pytest.mark.parametrize("remedy", Remedy)
def test_every_remedy_has_a_command_or_a_flag(remedy: Remedy) -> None:
    text = with_remedy(CollectionError("something is wrong", remedy=remedy, about="demo"))
    assert text.startswith("something is wrong (")
    assert "{" not in text


def test_without_a_remedy_the_message_stands_alone() -> None:
    assert with_remedy(SimdistError("it is so")) == "it is so"


@pytest.mark.parametrize(
    "error",
    [
        CollectionError("empty", remedy=Remedy.INGEST, about="demo"),
        ServiceError("no", status=401, remedy=Remedy.TOKEN),
        FetchError("slow", passing=True),
    ],
)
def test_errors_survive_pickling(error: SimdistError) -> None:
    """As those of a Ray task do."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_no_message_of_the_library_names_a_flag_or_a_command() -> None:
    """They are read in Python and over HTTP, too."""
    files = [file for folder in ("simdist", "cluster") for file in (ROOT / folder).rglob("*.py")]
    command = re.compile(rf"simdist ({'|'.join(commands())})\b")
    wrong = [
        (file.name, text)
        for file in files
        if "cli" not in file.parts
        for text in _texts(file)
        if _FLAG.search(text) or command.search(text)
    ]
    assert wrong == []


def _texts(file: Path) -> Iterator[str]:
    """Every string of a module but its docstrings."""
    tree = ast.parse(file.read_text())
    bodies = [getattr(node, "body", []) for node in ast.walk(tree)]
    documents = {
        id(body[0].value)
        for body in bodies
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and id(node) not in documents:
            yield text


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    text = errors.__doc__ or ""
    kinds = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SimdistError)
    ]
    assert [name for name in kinds if name not in text] == []
