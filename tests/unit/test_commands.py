"""The commands: their help, the page of them all, and what they say where something is wrong."""

from __future__ import annotations

import pickle
import re
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

_RAISED = re.compile(r"Error\(\n?(.*?)\)(?: from|\n)", re.DOTALL)
_FLAG = re.compile(r"[\s\"'(]--[a-z]|simdist (ingest|search|tune|rehash|serve)\b")


def commands() -> dict[str, Any]:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)


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
        if parameter.envvar:
            assert parameter.envvar in words


def test_every_command_has_examples_that_it_takes() -> None:
    assert set(EXAMPLES) == set(commands())
    for name, examples in EXAMPLES.items():
        for example in examples:
            _, command, *arguments = example.split()
            assert command == name
            commands()[name].make_context(name, arguments, resilient_parsing=True)
            known = {flag for one in commands()[name].params for flag in (*one.opts,)}
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
    wrong = [
        (file.name, call)
        for file in files
        if "cli" not in file.parts
        for call in _RAISED.findall(file.read_text())
        if _FLAG.search(call)
    ]
    assert wrong == []


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    text = errors.__doc__ or ""
    kinds = [
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, SimdistError)
    ]
    assert [name for name in kinds if name not in text] == []
