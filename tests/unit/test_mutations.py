"""Thousands of damaged files: none crashes, hangs or bloats the process that decodes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from simdist.images.limits import MAX_PIXELS
from tests.conftest import ROOT
from tests.mutations import FORMATS, Report

pytestmark = pytest.mark.slow

COUNT = 1_000  # of each format
# A picture of the largest size and its RGB copy, four bytes a pixel each, and some room.
MEMORY = 2 * 4 * MAX_PIXELS + 100_000_000


def decode_all(what: str, count: int = 0) -> Report:
    """Decode in a process of its own, which must neither die nor write to stderr."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations", what, str(count)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    *names, last = done.stdout.splitlines()
    assert done.returncode == 0, f"at {last}: status {done.returncode}\n{done.stderr}"
    assert done.stderr == ""
    report = Report(**json.loads(last))
    assert report.decoded + report.refused == len(names)
    assert report.grown <= MEMORY, f"{report.blamed}: {report.grown:,} bytes"
    return report


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_file_is_decoded_or_refused(form: str) -> None:
    report = decode_all(form, COUNT)
    assert report.decoded + report.refused == COUNT
    # JPEG XL checks nearly all that it decodes.
    few = COUNT // (100 if form == "JXL" else 50)
    assert min(report.decoded, report.refused) > few, "the mutations reach nothing"


def test_the_largest_pictures_fit_into_the_memory_that_is_promised() -> None:
    report = decode_all("largest")
    assert (report.decoded, report.refused) == (2, 1)
    assert report.grown > 4 * MAX_PIXELS
