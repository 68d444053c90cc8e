"""What `import simdist` gives, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import simdist


def test_everything_exported_is_there_and_documented() -> None:
    for name in simdist.__all__:
        assert getattr(simdist, name).__doc__, name


def test_each_exported_name_has_one_home_and_a_type() -> None:
    tree = ast.parse(Path(simdist.__file__).read_text())
    [checked] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    homes = {name.name: node.module for node in imports for name in node.names}
    assert homes == simdist._HOMES
    assert simdist.__all__ == sorted(homes)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = simdist.Nothing


@pytest.mark.parametrize("code", ["import simdist", "import simdist.cli.main"])
def test_imports_stay_light(code: str) -> None:
    listing = "import sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", f"{code}; {listing}"], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "ray", "fastai", "torchvision", "timm", "huggingface_hub"}
    assert not heavy & set(output.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from simdist.embedding import Embedder; Embedder.load('efficientnet-lite0')",
        "from simdist.embedding.backbones import backbone; backbone('resnet34').build()",
        "import cluster.ingest.job, cluster.ingest.driver, cluster.service.embedder",
        "import simdist.training.train",
    ],
)
def test_timm_is_imported_for_its_own_networks_only(code: str) -> None:
    listing = "import sys; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", f"{code}; {listing}"], capture_output=True, text=True, check=True
    )
    assert not {"timm", "huggingface_hub", "open_clip"} & set(output.stdout.split())


@pytest.mark.parametrize(
    "imports",
    [
        "import simdist",
        "import simdist, simdist.ingest",
        "import simdist.ingest.committer",
        "from simdist.ingest.committer import Committer; import simdist",
        "import simdist; simdist.ingest; from simdist.ingest import failures",
        "import cluster.ingest.driver, simdist",
        "import cluster.ingest.job, simdist",
        "from simdist import ingest; import simdist",
    ],
)
def test_ingest_is_a_package_and_a_function_whatever_is_imported_first(imports: str) -> None:
    code = f"""{imports}
import inspect, pydoc
from simdist.errors import SourceError
from simdist.ingest.committer import Committer
from simdist import ingest

for function in (simdist.ingest, ingest):
    assert callable(function)
    assert list(inspect.signature(function).parameters)[:2] == ["location", "collection"]
    assert "Index the images of a folder" in pydoc.plain(pydoc.render_doc(function))
    try:
        function("no-such-folder", collection="demo")
    except SourceError as error:
        print(error)
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.count("no-such-folder") == 2
