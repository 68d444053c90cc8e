"""`LSHash`, as a user of lshash3 knows it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simdist import LSHash
from simdist.errors import CollectionError, UsageError, VectorError
from simdist.lshash import _DISTANCES
from simdist.store import connect
from tests.conftest import ROOT


@pytest.fixture
def port(valkey_tcp: int) -> int:
    store = connect(f"redis://127.0.0.1:{valkey_tcp}")
    store.call("FLUSHALL")
    store.close()
    return valkey_tcp


def open_tables(port: int, **options: Any) -> LSHash:
    config = {"redis": {"host": "127.0.0.1", "port": port, "db": 0}}
    return LSHash(6, 8, 3, storage_config=config, **options)


POINTS = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)


def test_index_and_query(port: int) -> None:
    with open_tables(port) as lsh:
        for number, point in enumerate(POINTS):
            lsh.index(point, extra_data=number)
        [(entry, distance), *others] = lsh.query(POINTS[7], num_results=4)
        assert entry == (tuple(POINTS[7].tolist()), 7)
        assert distance == 0
        assert [far for _, far in others] == sorted(far for _, far in others)


def test_entries_without_extra_data_are_plain_vectors(port: int) -> None:
    with open_tables(port) as lsh:
        lsh.index([1, 2, 3, 4, 5, 6, 7, 8])
        lsh.index([1, 2, 3, 4, 5, 6, 7, 8])
        assert lsh.query([1, 2, 3, 4, 5, 6, 7, 8]) == [((1, 2, 3, 4, 5, 6, 7, 8), 0.0)]


def test_candidates_are_those_of_the_own_buckets(port: int, tmp_path: Path) -> None:
    planes = tmp_path / "planes.npz"
    with open_tables(port, matrices_filename=planes) as lsh:
        for number, point in enumerate(POINTS):
            lsh.index(point, extra_data=number)
        found = {entry[1] for entry, _ in lsh.query(POINTS[0])}
    with np.load(planes) as file:
        signs = np.stack([POINTS @ file[name].T > 0 for name in file.files])
    expected = {i for i in range(200) if (signs[:, i] == signs[:, 0]).all(axis=1).any()}
    assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("euclidean", lambda a, b: ((a - b) ** 2).sum()),
        ("true_euclidean", lambda a, b: np.sqrt(((a - b) ** 2).sum())),
        ("centred_euclidean", lambda a, b: (a.mean() - b.mean()) ** 2),
        ("cosine", lambda a, b: 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
        ("l1norm", lambda a, b: np.abs(a - b).sum()),
    ],
)
def test_distances(port: int, name: str, expected: Any) -> None:
    with open_tables(port) as lsh:
        point, query = POINTS[0].astype(float), POINTS[0].astype(float) * 1.5 + 0.001
        lsh.index(point)
        [(_, distance)] = lsh.query(query, distance_func=name)
        assert distance == pytest.approx(expected(point, query), rel=1e-4, abs=1e-6)


def test_other_processes_share_the_hyperplanes(port: int) -> None:
    with open_tables(port) as first, open_tables(port) as second:
        first.index(POINTS[0], extra_data={"path": "a.jpg"})
        assert second.query(POINTS[0])[0][0][1] == {"path": "a.jpg"}


def test_without_storage_it_uses_the_embedded_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMDIST_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("SIMDIST_REDIS_URL", raising=False)
    with LSHash(6, 8) as lsh:
        lsh.index(POINTS[0])
        assert len(lsh.query(POINTS[0])) == 1


def test_refusals(port: int, tmp_path: Path) -> None:
    with open_tables(port) as lsh:
        with pytest.raises(VectorError):
            lsh.index([1, 2, 3])
        with pytest.raises(VectorError):
            lsh.index([0] * 8)
        with pytest.raises(UsageError, match="must be JSON"):
            lsh.index(POINTS[0], extra_data=object())
        with pytest.raises(UsageError, match="distance_func must be one of euclidean"):
            lsh.query(POINTS[0], distance_func="manhattan")
        assert lsh.query(POINTS[0]) == []
    config = {"redis": {"host": "127.0.0.1", "port": port}}
    with pytest.raises(CollectionError, match="another kind or size"):
        LSHash(7, 8, 3, storage_config=config)
    with pytest.raises(UsageError, match="storage_config"):
        LSHash(7, 8, storage_config={"leveldb": {"db": "x"}})
    with pytest.raises(UsageError, match="unknown in storage_config: prefix"):
        LSHash(7, 8, storage_config={"redis": {"prefix": 1}})
    (tmp_path / "bad.npz").write_text("nothing")
    with pytest.raises(UsageError, match=r"not an \.npz file"):
        open_tables(port, matrices_filename=tmp_path / "bad.npz", name="other")


ORACLE = ROOT / ".venv-lshash3" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not ORACLE.exists(), reason="`make test` makes an environment for lshash3")
@pytest.mark.parametrize("name", list(_DISTANCES))
@pytest.mark.parametrize("tables", [1, 3, 12])
def test_same_answers_as_lshash3(port: int, tmp_path: Path, name: str, tables: int) -> None:
    """The real lshash3 with the same hyperplanes finds the same neighbours, in the same order."""
    planes = tmp_path / "planes.npz"
    np.savez_compressed(planes, *np.random.default_rng(tables).standard_normal((tables, 6, 8)))
    queries = POINTS[:20] + np.float32(0.1)
    work = {
        "sizes": [6, 8, tables],
        "planes": str(planes),
        "points": POINTS.tolist(),
        "queries": queries.tolist(),
        "distance": name,
    }
    script = Path(__file__).with_name("lshash3_oracle.py")
    answer = subprocess.run(
        [str(ORACLE), "-W", "ignore", str(script)],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = json.loads(answer.stdout)
    config = {"redis": {"host": "127.0.0.1", "port": port}}
    with LSHash(6, 8, tables, storage_config=config, matrices_filename=planes) as lsh:
        for number, point in enumerate(POINTS):
            lsh.index(point, extra_data=number + 1)
        np.testing.assert_array_equal(lsh.family.buckets(POINTS), expected["buckets"])
        for query, found in zip(queries, expected["found"], strict=True):
            ours = lsh.query(query, distance_func=name)
            assert [entry[1] for entry, _ in ours] == [number for number, _ in found]
            theirs = [distance for _, distance in found]
            np.testing.assert_allclose([far for _, far in ours], theirs, rtol=1e-4, atol=1e-6)
