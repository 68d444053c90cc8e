"""Ctrl-C ends a command as Ctrl-C, whatever the code that it strikes makes of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from simdist.cli.main import INTERRUPTED

STRUCK = """
import signal, sys
# What is started in the background is deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
from simdist.cli import main

@main.app.command()
def struck() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    {then}

sys.argv = ["simdist", "struck"]
main.main()
"""


@pytest.mark.parametrize("then", ["raise TypeError('of it')", "raise KeyboardInterrupt"])
def test_what_ctrl_c_becomes(then: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STRUCK.format(then=then)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == INTERRUPTED
    assert ended.stderr == "error: stopped; run the same command again to go on\n"
