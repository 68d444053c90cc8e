"""The service against its own OpenAPI document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cluster.service.http.models import (
    AddRequest,
    BatchRequest,
    SearchRequest,
    image_id,
)
from simdist.sources import ImageRef, list_folder
from tests.cluster.conftest import without_servers
from tests.conftest import PHOTOS, ROOT
from tests.hostile import WRITE_TOKEN
from tests.service import Service

SETTINGS = Path(__file__).with_name("schemathesis.toml")
CASES = 2000


@pytest.fixture(scope="module")
def document(guarded: Service) -> dict[str, Any]:
    answer = guarded.get("/v1/openapi.json")
    assert answer.status_code == 200
    described: dict[str, Any] = answer.json()
    return described


@pytest.mark.timeout(900)
def test_it_keeps_what_its_document_promises(
    guarded: Service, document: dict[str, Any], tmp_path: Path
) -> None:
    """2,000 requests that schemathesis makes up, good ones and bad ones, and all of its checks."""
    refs = [ref for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
    report = tmp_path / "report.ndjson"
    command: list[str | Path] = [
        Path(sys.executable).with_name("schemathesis"),
        "--config-file",
        SETTINGS,
        "run",
    ]
    command += [f"{guarded.url}/v1/openapi.json", "--report-ndjson-path", report, "--no-color"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=without_servers(
            PYTHONPATH=str(ROOT),
            SIMDIST_WRITE_TOKEN=WRITE_TOKEN,
            SIMDIST_IMAGE_IDS=",".join(image_id(ref.uri) for ref in refs),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = list(_requests(report))
    assert len(asked) >= CASES
    statuses = {status for *_, status in asked}
    assert statuses >= {200, 201, 401, 404, 405, 415, 422}
    assert max(statuses) < 500
    # Not only refusals: each operation did what it is for.
    good = {(operation, status) for operation, status in asked if status < 300}
    assert len(good) >= len(_operations(document)) - 1, good  # what is not indexed, none deletes


def _requests(report: Path) -> Iterator[tuple[str, int]]:
    """Of each request: the operation, and the status code of the answer."""
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for number, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][number]["value"]
            yield f"{case['method']} {case['path']}", interaction["response"]["status_code"]


def test_each_operation_is_described(document: dict[str, Any]) -> None:
    operations = _operations(document)
    assert len(operations) == 10
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    for name, operation in operations.items():
        assert operation["summary"] and operation["description"] and operation["tags"], name
        for status, answer in operation["responses"].items():
            assert answer["description"], name
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], name


def test_tokens_are_asked_for_where_they_are_needed(document: dict[str, Any]) -> None:
    [(name, scheme)] = document["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for operation, described in _operations(document).items():
        is_open = operation in ("GET /healthz", "GET /readyz")
        writes = operation in ("POST /v1/images", "DELETE /v1/images")
        assert described.get("security") == (None if is_open else [{name: []}])
        assert ("401" in described["responses"]) == (not is_open)
        assert ("429" in described["responses"]) == (not is_open)
        assert ("403" in described["responses"]) == writes


@pytest.mark.parametrize("model", [SearchRequest, BatchRequest, AddRequest])
def test_the_examples_are_valid(document: dict[str, Any], model: type[BaseModel]) -> None:
    examples = document["components"]["schemas"][model.__name__]["examples"]
    assert examples
    for example in examples:
        model.model_validate(example, strict=True)


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
