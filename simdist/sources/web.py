"""The safe fetcher: the only way by which an address from a user is fetched."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from simdist.errors import FetchError
from simdist.images.limits import MAX_BYTES

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
TOTAL_SECONDS = 30.0
MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_BUSY = (408, 429, 500, 502, 503, 504)

# A refused address is this module's error to report, not a line of that library's log.
logging.getLogger("requests_hardened").addHandler(logging.NullHandler())


def fetch(
    url: str,
    *,
    allow_loopback: bool = False,
    any_port: bool = False,
    seconds: float | None = None,
) -> bytes:
    """Fetch an image from a public web address.

    The name is resolved once and only a public address is connected to, and none of this machine,
    at every redirect anew; proxies and credentials of the environment are not used.

    Args:
        url: an http or https address.
        allow_loopback: let loopback addresses pass; for tests.
        any_port: let other ports than 80 and 443 pass.
        seconds: for all of it, looking up names included; by default `TOTAL_SECONDS`.

    Returns:
        At most `MAX_BYTES` bytes.

    Raises:
        FetchError: refused, unreachable, not found, too slow or too large.
    """
    import requests
    from requests.exceptions import ChunkedEncodingError
    from requests_hardened.ip_filter import InvalidIPAddress

    from simdist.sources.deadline import Deadline, took_longer

    seconds = TOTAL_SECONDS if seconds is None else seconds
    until = time.monotonic() + seconds
    try:
        with (
            _session(allow_loopback=allow_loopback, any_port=any_port, until=until) as session,
            Deadline(session, seconds),
            session.get(url, stream=True) as response,
        ):
            response.raise_for_status()
            return _read(response)
    except FetchError as error:
        raise FetchError(f"cannot fetch {url}: {error}", passing=error.passing) from error
    except InvalidIPAddress as error:
        raise FetchError(
            f"{url} does not lead to a public address; save the image and give its path instead"
        ) from error
    except requests.HTTPError as error:
        status = error.response.status_code
        raise FetchError(f"{url} answered {status}", passing=status in _BUSY) from error
    except requests.TooManyRedirects as error:
        raise FetchError(f"{url} redirects more than {MAX_REDIRECTS} times") from error
    except requests.Timeout as error:
        # A read's own timeout ends with the time for all, at times a moment before the deadline.
        if time.monotonic() >= until:
            raise FetchError(f"cannot fetch {url}: {took_longer(seconds)}") from error
        raise FetchError(f"{url} did not answer in time; try again later", passing=True) from error
    # ValueError: urllib3 and idna raise it for addresses that requests lets through.
    except (requests.RequestException, ValueError) as error:
        raise FetchError(
            f"cannot fetch {url}: check the address and the network connection",
            passing=isinstance(error, requests.ConnectionError | ChunkedEncodingError),
        ) from error


def _session(*, allow_loopback: bool, any_port: bool, until: float) -> requests.Session:
    """A session that connects to public addresses only."""
    from requests_hardened import Config, HTTPSession

    from simdist.sources.public import PublicAdapter

    config = Config(
        ip_filter_enable=True,
        ip_filter_allow_loopback_ips=allow_loopback,
        never_redirect=False,
        default_timeout=(CONNECT_SECONDS, READ_SECONDS),
        user_agent_override="simdist",
    )
    session: requests.Session = HTTPSession(config)
    for scheme in ("http", "https"):
        adapter = PublicAdapter(
            scheme == "https", allow_loopback=allow_loopback, any_port=any_port, until=until
        )
        session.mount(f"{scheme}://", adapter)
    session.trust_env = False
    session.max_redirects = MAX_REDIRECTS
    session.hooks["response"].append(_close_redirect)
    return session


def _read(response: requests.Response) -> bytes:
    data = bytearray()
    for chunk in response.iter_content(_CHUNK):
        data += chunk
        if len(data) > MAX_BYTES:
            raise FetchError(f"it sends more than {MAX_BYTES:,} bytes")
    return bytes(data)


def _close_redirect(response: requests.Response, **_: object) -> None:
    """Without this, requests reads a redirect's body to its end, however long it is."""
    if response.is_redirect:
        response.close()
