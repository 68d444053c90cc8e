"""Bytes that others wrote, damaged: a parser reads them or refuses them, and survives both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simdist.sources.parquet import MAX_DECODED
from tests.conftest import LONG, ROOT
from tests.foreign import KINDS
from tests.fuzzing import Report

# Each starts a process that loads what it needs, and takes some seconds.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLES = 300
SECONDS = 240 if LONG else 0


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_bytes_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzzing", kind, str(tmp_path), str(EXAMPLES)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        [*command, str(SECONDS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = Report(**json.loads(done.stdout.splitlines()[-1]))
    assert report.accepted + report.refused >= EXAMPLES
    assert report.accepted, "the damage is too great: nothing looks further"
    assert report.grown <= MAX_DECODED
