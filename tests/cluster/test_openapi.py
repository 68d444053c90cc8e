"""The service against its own OpenAPI document."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cluster.service.http.answers import image_id
from cluster.service.http.changes import AmendRequest, ToRequest
from cluster.service.http.duplicate_models import (
    DecideRequest,
    FindRequest,
    RemovalRequest,
    RuleRequest,
)
from cluster.service.http.models import AddRequest
from cluster.service.http.search_models import BatchRequest, SearchRequest
from simdist.sources import ImageRef, list_folder
from tests.cluster.conftest import without_servers
from tests.conftest import LONG, PHOTOS, ROOT
from tests.hostile import READ_TOKEN, WRITE_TOKEN
from tests.service import Service

SETTINGS = Path(__file__).with_name("schemathesis.toml")
# Of each operation and phase; with so many, all in all at least so many requests.
EXAMPLES, CASES = 90, 1000
LONG_EXAMPLES, LONG_CASES = 700, 5000
FEW_EXAMPLES = 10
# Done only where another request has just made what they are about, or taken it away.
NEEDS_LUCK = {
    "POST /v1/collections/{name}/copy",
    "POST /v1/collections/{name}/rename",
    "DELETE /v1/collections/{name}",
    "DELETE /v1/aliases/{name}",
}
OPEN = {"GET /healthz", "GET /readyz"}


@pytest.fixture(scope="module")
def document(guarded: Service) -> dict[str, Any]:
    answer = guarded.get("/v1/openapi.json")
    assert answer.status_code == 200
    described: dict[str, Any] = answer.json()
    return described


@pytest.mark.timeout(3600 if LONG else 900)
def test_it_keeps_what_its_document_promises(
    guarded: Service, document: dict[str, Any], tmp_path: Path
) -> None:
    """A thousand requests that schemathesis makes up, good ones and bad ones, all of its checks."""
    asked = _ask(guarded, tmp_path, WRITE_TOKEN, LONG_EXAMPLES if LONG else EXAMPLES)
    assert len(asked) >= (LONG_CASES if LONG else CASES)
    statuses = {status for *_, status in asked}
    assert statuses >= {200, 201, 401, 404, 405, 415, 422}
    # Not only refusals: each operation did what it is for.
    good = _good(asked)
    assert good >= {*_operations(document)} - NEEDS_LUCK, good


@pytest.mark.timeout(3600 if LONG else 900)
@pytest.mark.parametrize(
    ("token", "refusal"),
    [(READ_TOKEN, 403), (None, 401), (f"{WRITE_TOKEN}x", 401)],
    ids=["read", "none", "wrong"],
)
def test_what_a_token_may_not_do_is_refused(
    guarded: Service, document: dict[str, Any], tmp_path: Path, token: str | None, refusal: int
) -> None:
    """Fewer of the same requests, by those who may not write, or not even read."""
    # Rights are looked at before anything that a request says: its bounds need not be tried again.
    phases = () if LONG else ("--phases", "examples,fuzzing")
    asked = _ask(guarded, tmp_path, token, LONG_EXAMPLES if LONG else FEW_EXAMPLES, *phases)
    writes = _writes(document)
    assert writes <= {operation for operation, status in asked if status == refusal}
    allowed = {*_operations(document)} - writes if token == READ_TOKEN else OPEN
    assert _good(asked) <= allowed
    assert _good(asked) >= OPEN


def _ask(
    service: Service, folder: Path, token: str | None, examples: int, *options: str
) -> list[tuple[str, int]]:
    """Let schemathesis ask a service; of each request the operation and the status code."""
    refs = [ref for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
    settings, report = folder / "schemathesis.toml", folder / "report.ndjson"
    auth = f'\n[auth.openapi.bearer]\nbearer = "{token}"\n' if token else ""
    settings.write_text(SETTINGS.read_text() + auth)
    command: list[str | Path] = [Path(sys.executable).with_name("schemathesis")]
    command += [
        "--config-file",
        settings,
        "run",
        "--max-examples",
        str(examples),
        "--no-color",
        *options,
    ]
    command += [f"{service.url}/v1/openapi.json", "--report-ndjson-path", report]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=without_servers(
            PYTHONPATH=str(ROOT), SIMDIST_IMAGE_IDS=",".join(image_id(ref.uri) for ref in refs)
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    asked = list(_requests(report))
    print(len(asked), sorted(Counter(status for _, status in asked).items()))
    assert max(status for _, status in asked) < 500
    return asked


def _good(asked: Iterable[tuple[str, int]]) -> set[str]:
    """The operations that have done something."""
    return {operation for operation, status in asked if status < 300}


def _requests(report: Path) -> Iterator[tuple[str, int]]:
    """Of each request: the operation, and the status code of the answer."""
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for number, interaction in recorder.get("interactions", {}).items():
            case = recorder["cases"][number]["value"]
            yield f"{case['method']} {case['path']}", interaction["response"]["status_code"]


def test_each_operation_is_described(document: dict[str, Any]) -> None:
    operations = _operations(document)
    assert len(operations) == 29
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
        assert described.get("security") == (None if is_open else [{name: []}])
        assert ("401" in described["responses"]) == (not is_open)
        assert ("429" in described["responses"]) == (not is_open)
        assert ("403" in described["responses"]) == (operation in _writes(document))


def test_a_pattern_means_the_same_to_whoever_reads_it(document: dict[str, Any]) -> None:
    """What a space or a letter is, Rust, JavaScript and Python each see in another way."""
    patterns = set(re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(document)))
    assert len(patterns) >= 4
    for pattern in map(json.loads, patterns):
        assert not re.search(r"\\[sSwWdDbBpP]", pattern), pattern


@pytest.mark.parametrize(
    "model",
    [
        *(SearchRequest, BatchRequest, AddRequest, AmendRequest, ToRequest),
        *(FindRequest, DecideRequest, RuleRequest, RemovalRequest),
    ],
)
def test_the_examples_are_valid(document: dict[str, Any], model: type[BaseModel]) -> None:
    examples = document["components"]["schemas"][model.__name__]["examples"]
    assert examples
    for example in examples:
        model.model_validate(example, strict=True)


def _writes(document: dict[str, Any]) -> set[str]:
    """The operations that change something: all but searches, also for duplicates, and GET."""
    return {
        operation
        for operation in _operations(document)
        if not operation.startswith(("GET ", "POST /v1/search"))
        and operation != "POST /v1/duplicates"
    }


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
