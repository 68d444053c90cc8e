"""Ctrl-C ends a command as Ctrl-C, whatever the code that it strikes makes of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simdist.cli.main import INTERRUPTED

STRUCK = """
import ctypes, signal, sys, time
# What is started in the background is deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from simdist.cli import main

@main.app.command()
def struck() -> None:
    {what}

sys.argv = ["simdist", "struck"]
main.main()
"""


PYTHON = """
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {error}
"""
SWALLOWED = """
    @ctypes.CFUNCTYPE(None)
    def called():
        signal.raise_signal(signal.SIGINT)
    called()
"""
SWALLOWED_EARLY = SWALLOWED + "    time.sleep(3600)"


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(PYTHON.format(error="KeyboardInterrupt"), id="what it is"),
        pytest.param(PYTHON.format(error="TypeError('of it')"), id="another error"),
        pytest.param(SWALLOWED_EARLY, id="nothing"),
    ],
)
def test_ctrl_c_ends_a_command_cleanly(what: str) -> None:
    ended = struck(what)
    assert ended.returncode == INTERRUPTED
    assert ended.stderr == "error: stopped; run the same command again to go on\n"


def test_a_finished_command_is_not_interrupted() -> None:
    ended = struck(SWALLOWED)
    assert (ended.returncode, ended.stderr) == (0, "")


def struck(what: str) -> subprocess.CompletedProcess[str]:
    """Run a command that Ctrl-C strikes."""
    return subprocess.run(
        [sys.executable, "-c", STRUCK.format(what=what)],
        check=False,
        capture_output=True,
        text=True,
    )
