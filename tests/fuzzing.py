"""Damaged bytes of every kind that others wrote, and the process in which a parser reads them.

    python -m tests.fuzzing KIND FOLDER EXAMPLES [SECONDS]

has a parser read so many damaged examples, again and again until the seconds are over, and prints
one line of JSON, a `Report`. It fails with the smallest such example when one raises anything but
its parser's documented errors, or takes longer than `PATIENCE`; what was read last lies in FOLDER.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.foreign import KINDS, Parts

# Seconds for one example: nobody waits for longer, and no busy machine is that slow.
PATIENCE = 120
# Bytes of address space beyond what the process has when it begins.
ROOM = 3 << 30
# What a number in a header may be: none, one, negative, just below and above what fits.
LIES = (0, 1, 2, 7, 127, 128, 255, 256, 65_535, 65_536, 10**7, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
DIGITS = (b"0", b"-1", b"7", b"65536", b"4294967296", b"1e999", b"9" * 400, b"9" * 5000)
# What means something in texts, paths or JSON.
WORDS = (
    *(b"\0", b"\n", b"\r\n", b'"', b'""', b",", b";", b"\t", b" ", b"\\", b"/", b"#", b"%", b"~"),
    *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80"),
    *(
        b"..",
        b"~nobody-here/",
        b"file://",
        b"http://[",
        b"s3://",
        b"://",
        b"%00",
        b"%ff",
        b"\\ud800",
    ),
    *(b"NaN", b"-Infinity", b"null", b"true", b"{}", b"[]", b"1e400", b"[" * 3000, b'{"a":' * 3000),
)


DAMAGES = ("flip", "flip", "set", "number", "number", "digits", "cut", "take", "splice", "word")


@dataclass(frozen=True)
class Report:
    """What became of the examples of one kind.

    Attributes:
        accepted: how many were read.
        refused: how many raised an error of simdist.
        grown: by how many bytes the peak of resident memory rose over all of them.
    """

    accepted: int
    refused: int
    grown: int


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[Parts]) -> Parts:
    """Well-formed parts with one to four kinds of damage; a tenth is anything at all."""
    if draw(st.integers(0, 9)) == 9:
        return draw(st.tuples(*[st.binary(max_size=200)] * len(seeds[0])))
    parts = [bytearray(part) for part in draw(st.sampled_from(seeds))]
    for _ in range(draw(st.sampled_from((1, 1, 2, 4)))):
        part = parts[draw(st.integers(0, len(parts) - 1))]
        at = _place(draw, part)
        end = min(len(part), at + draw(st.integers(1, 8) | st.integers(1, 600)))
        match draw(st.sampled_from(DAMAGES)):
            case "flip" if at < len(part):
                part[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                part[at:end] = draw(st.binary(min_size=1, max_size=8))
            case "number":
                size = draw(st.sampled_from((1, 2, 4, 8)))
                order: Any = draw(st.sampled_from(("little", "big")))
                value = draw(st.sampled_from(LIES)) % 256**size
                part[at : at + size] = value.to_bytes(size, order)
            case "digits":
                if runs := list(re.finditer(rb"\d+", part[at:]))[:20]:
                    run = draw(st.sampled_from(runs))
                    part[at + run.start() : at + run.end()] = draw(st.sampled_from(DIGITS))
            case "cut":
                del part[at:]
            case "take":
                del part[at:end]
            case "splice":
                other = draw(st.sampled_from(draw(st.sampled_from(seeds))))
                start = _place(draw, other)
                piece = other[start : start + draw(st.integers(1, 600))]
                part[at : draw(st.sampled_from((at, end)))] = piece * draw(
                    st.sampled_from((1, 1, 50))
                )
            case "word":
                part[at : draw(st.sampled_from((at, end)))] = draw(st.sampled_from(WORDS))
    return tuple(map(bytes, parts))


def _place(draw: st.DrawFn, part: bytes | bytearray) -> int:
    """Where in a part: often where headers are, or a footer."""
    size = len(part)
    near = st.integers(0, min(size, 64)) | st.integers(max(0, size - 600), size)
    return draw(near | st.integers(0, size))


def main() -> None:
    """See the module."""
    kind, folder, examples, *seconds = sys.argv[1:]
    warnings.simplefilter("ignore")  # what torch says of odd files
    target = KINDS[kind]
    seeds = target.seeds()
    until = time.monotonic() + float(seconds[0] if seconds else 0)
    counts = [0, 0]
    for seed in seeds:
        with suppress(*target.errors):
            target.read(seed, Path(folder))
    used = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    start = _peak()

    @settings(
        max_examples=int(examples),
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(damaged(seeds))
    def read(parts: Parts) -> None:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        for number, part in enumerate(parts):
            (Path(folder) / f"last-{number}").write_bytes(part)
        try:
            target.read(parts, Path(folder))
        except target.errors as error:
            assert str(error)
            counts[1] += 1
        else:
            counts[0] += 1
        faulthandler.cancel_dump_traceback_later()

    while True:
        read()
        if time.monotonic() >= until:
            break
    print(json.dumps(asdict(Report(counts[0], counts[1], _peak() - start))))


def _peak() -> int:
    """Peak of this program's resident memory, in bytes; `getrusage` starts from its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
