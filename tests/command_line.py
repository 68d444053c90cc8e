"""Runs the command line as a user would, but inside the test's process; and other programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from simdist.cli.main import main


def tool(name: str) -> Path:
    """A program that one of the packages for the tests brings."""
    return Path(sys.executable).parent / name


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


class CommandLine:
    """`run("status", "--json")` is `simdist status --json`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, *arguments: str) -> Result:
        self._monkeypatch.setattr(sys, "argv", ["simdist", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = self._capsys.readouterr()
        code = stop.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    def fail(self, *arguments: str, code: int = 1) -> str:
        """Run a command that must fail with one clear message; returns it as one line."""
        result = self.run(*arguments)
        assert result.code == code, result
        assert "Traceback" not in result.err
        errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 or code == 2, result.err
        return " ".join(result.err.split())
