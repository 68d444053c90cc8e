"""A folder of neighbours: Parquet files, and a note of what they follow from.

While they are made, the finished ranges lie in a folder within it. Whoever comes after a kill goes
on with these, if the collection is still the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import OutputError, UsageError
from simdist.joining.job import Known, Part
from simdist.joining.plan import Plan
from simdist.joining.whole import Whole
from simdist.joining.writing import whole_file
from simdist.sources import local_path

if TYPE_CHECKING:
    import pyarrow as pa

NOTE = "neighbours.json"
_WORK, _PLAN = "unfinished", "plan.json"
_FORMAT = 1
# Images in a file.
_IMAGES = 65_536


@dataclass(frozen=True)
class Folder:
    """Where neighbours are written to."""

    path: Path

    @classmethod
    def at(cls, location: str) -> Folder:
        """The folder at a path, which is made if it is not there.

        Raises:
            UsageError: there is something else, or the folder has other things in it.
            OutputError: it cannot be made.
        """
        path = local_path(location)
        try:
            path.mkdir(parents=True, exist_ok=True)
            others = [one for one in path.iterdir() if not _is_ours(one)]
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{path} is not a folder") from error
        except OSError as error:
            raise OutputError(f"cannot make {path}: {error.strerror or error}") from error
        if others:
            raise UsageError(f"{path} holds {others[0].name}: name a new folder, or an empty one")
        return cls(path)

    def plan(self) -> Plan | None:
        """What its neighbours follow from; None if there are none, or not all.

        Raises:
            UsageError: another version has written them.
        """
        return _plan(self.path / NOTE)

    def begin(self, plan: Plan) -> set[int]:
        """Begin, or go on after an interruption; returns which ranges are there."""
        work = self.path / _WORK
        if _plan(work / _PLAN) != plan:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            _write_plan(work / _PLAN, plan)
        return {int(one.stem) for one in work.glob("*.npz")}

    def keep(self, number: int, part: Part) -> None:
        """Keep a range that is finished.

        Raises:
            OutputError: it cannot be written.
        """
        with whole_file(self.path / _WORK / f"{number}.npz") as target, target.open("wb") as file:
            np.savez(file, images=part.images, best=part.best, scores=part.scores)

    def finish(self, plan: Plan, whole: Whole) -> None:
        """Write the files when all ranges are there, and then the note.

        Raises:
            OutputError: they cannot be written.
        """
        import pyarrow as pa

        best, scores = self._together(len(whole), plan.wanted.k)
        names = (whole.uri(number) for number in range(len(whole)))
        uris = pa.array(names, pa.string(), size=len(whole))
        # From here on until the note is there again, they are not whole.
        (self.path / NOTE).unlink(missing_ok=True)
        written = set()
        for start in range(0, len(whole), _IMAGES):
            name = f"part-{start // _IMAGES:05}.parquet"
            with whole_file(self.path / name) as target:
                part = slice(start, start + _IMAGES)
                _write(target, uris, best[part], scores[part], start)
            written.add(name)
        for old in self.path.glob("part-*.parquet"):
            if old.name not in written:
                old.unlink()
        _write_plan(self.path / NOTE, plan)
        shutil.rmtree(self.path / _WORK, ignore_errors=True)

    def known(self, whole: Whole, earlier: Plan) -> Known:
        """What it holds, in the numbers that images have by now.

        Raises:
            UsageError: it is damaged.
        """
        before = np.array(earlier.rows)[whole.partitions]
        new_slots = whole.own_rows >= before
        new = new_slots[whole.slots]
        best = np.full((len(whole), earlier.wanted.k), -1, np.int32)
        scores = np.full(best.shape, -np.inf, np.float32)
        stale = new.copy()
        numbers = {whole.uri(number): number for number in range(len(whole))}
        for uris, others, found, ranks in self._lines():
            own = np.array([numbers.get(uri, -1) for uri in uris], np.int64)
            theirs = np.array([numbers.get(uri, -1) for uri in others], np.int64)
            # A neighbour that is gone, or is another by now, leaves a gap.
            gone = (theirs < 0) | new[theirs]
            there = own >= 0
            stale[own[there & gone]] = True
            kept = there & ~gone
            best[own[kept], ranks[kept] - 1] = theirs[kept]
            scores[own[kept], ranks[kept] - 1] = found[kept]
        return Known(best, scores, new, stale)

    def _together(self, count: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        best, scores = np.full((count, k), -1, np.int32), np.empty((count, k), np.float32)
        for one in (self.path / _WORK).glob("*.npz"):
            with np.load(one, allow_pickle=False) as part:
                best[part["images"]] = part["best"]
                scores[part["images"]] = part["scores"]
        return best, scores

    def _lines(self) -> Iterator[tuple[Any, ...]]:
        """The columns of its files, some lines at a time."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for path in sorted(self.path.glob("part-*.parquet")):
            try:
                for batch in pq.ParquetFile(path).iter_batches(_IMAGES):
                    yield (
                        batch["uri"].to_pylist(),
                        batch["neighbour"].to_pylist(),
                        batch["score"].to_numpy(),
                        batch["rank"].to_numpy(),
                    )
            except (pa.ArrowException, OSError, KeyError) as error:
                raise UsageError(f"{path} is damaged: name another folder") from error


def _is_ours(path: Path) -> bool:
    return path.name in (NOTE, _WORK) or path.match("part-*.parquet") or path.match(".*.part")


def _write(
    path: Path,
    uris: pa.Array,
    best: NDArray[np.int32],
    scores: NDArray[np.float32],
    start: int,
) -> None:
    """Write the neighbours of some images, of which the first has the number `start`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    own, place = np.nonzero(best >= 0)
    table = pa.table(
        {
            "uri": uris.take(pa.array(own + start)),
            "neighbour": uris.take(pa.array(best[own, place])),
            "score": pa.array(scores[own, place], pa.float32()),
            "rank": pa.array(place + 1, pa.int32()),
        }
    )
    pq.write_table(table, path, compression="zstd")


def _plan(path: Path) -> Plan | None:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields.pop("format") != _FORMAT:
            raise UsageError(f"{path} is of another version of simdist: name another folder")
        return Plan.from_json(fields)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: name another folder, or delete it") from error


def _write_plan(path: Path, plan: Plan) -> None:
    with whole_file(path) as target:
        target.write_text(json.dumps({"format": _FORMAT} | plan.as_json(), indent=2) + "\n")
