"""What `import simdist` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import simdist


def test_everything_exported_is_there_and_documented() -> None:
    for name in simdist.__all__:
        assert getattr(simdist, name).__doc__, name


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = simdist.Nothing


@pytest.mark.parametrize("code", ["import simdist", "import simdist.cli.main"])
def test_imports_stay_light(code: str) -> None:
    listing = "import sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", f"{code}; {listing}"], capture_output=True, text=True, check=True
    )
    assert not {"torch", "ray", "fastai", "torchvision"} & set(output.stdout.split())
