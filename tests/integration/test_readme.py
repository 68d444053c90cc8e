"""The README's examples do what the README says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)

# What differs from run to run: times, and so the slowest stage of so short a run; sizes; places.
_VARYING = [
    (r"in [\d.:]+( s)?$", "in TIME"),
    (r"stage: (list|fetch|decode|embed|commit), busy \d+%", "STAGE, busy SHARE"),
    (r"[\d.]+ [KM]B", "SIZE"),
    (r" +SIZE", " SIZE"),
    (r"unix://\S+,", "SOCKET"),
    (r"file:///\S+?/examples/", "file:///HERE/examples/"),
    # It holds a score.
    (r'"next":"[\w-]+"', '"next":"CURSOR"'),
]
# A score differs a little from CPU to CPU: some calculate with bfloat16.
_SCORE = re.compile(r"\b0\.\d{3,}")


def masked(text: str) -> str:
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return text.strip()


def assert_same(printed: str, expected: str) -> None:
    """The same text, and the same scores to 0.01."""
    assert _SCORE.sub("SCORE", printed) == _SCORE.sub("SCORE", expected)
    scores, wanted = ([float(s) for s in _SCORE.findall(text)] for text in (printed, expected))
    assert scores == pytest.approx(wanted, abs=0.01)


def examples() -> Iterator[tuple[str, str]]:
    """The commands of the console blocks, and what each is said to print."""
    for language, content in BLOCK.findall(README):
        if language == "console":
            command, _, output = content.partition("\n")
            yield command.removeprefix("$ "), output


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fresh user's environment, with simdist installed."""
    data = tmp_path_factory.mktemp("data")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = ("SIMDIST_REDIS_URL", "RAY_ADDRESS", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return kept | {"SIMDIST_DATA_DIR": str(data), "PATH": path}


def assert_serves(command: str, expected: str, environment: dict[str, str]) -> None:
    """It says that it is ready, and nothing else; Ctrl-C stops it."""
    with subprocess.Popen(
        ["/bin/sh", "-c", f"exec {command}"],
        cwd=ROOT,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (said, process.stdout.read(), process.wait()) == (expected, "Stopped.\n", 0)


@pytest.mark.slow
def test_the_examples_print_what_the_readme_shows(environment: dict[str, str]) -> None:
    commands = list(examples())
    assert len(commands) == 7
    for command, expected in commands:
        if command.startswith("simdist serve"):
            assert_serves(command, expected, environment)
            continue
        result = subprocess.run(
            ["/bin/sh", "-c", command.replace("--out ", "--out .venv/")],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert_same(masked(result.stdout).replace(".venv/", ""), masked(expected))
    blocks = BLOCK.findall(README)
    [place] = [i for i, (language, _) in enumerate(blocks) if language == "python"]
    result = subprocess.run(
        [sys.executable, "-c", blocks[place][1]],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert_same(result.stdout, blocks[place + 1][1])
