"""The safe fetcher: the only way by which an address from a user is fetched."""

from __future__ import annotations

import logging
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


def fetch(url: str, *, allow_loopback: bool = False) -> bytes:
    """Fetch an image from a public web address.

    The name is resolved once and only a public address is connected to, at every redirect anew
    (`requests-hardened`); proxies and credentials of the environment are not used.

    Args:
        url: an http or https address.
        allow_loopback: let addresses of this machine pass; for tests.

    Returns:
        At most `MAX_BYTES` bytes.

    Raises:
        FetchError: refused, unreachable, not found, too slow or too large.
    """
    import requests
    from requests.exceptions import ChunkedEncodingError
    from requests_hardened.ip_filter import InvalidIPAddress

    from simdist.sources.deadline import Deadline

    try:
        with (
            _session(allow_loopback=allow_loopback) as session,
            Deadline(session, TOTAL_SECONDS),
            session.get(url, stream=True) as response,
        ):
            response.raise_for_status()
            return _read(response)
    except FetchError as error:
        raise FetchError(f"cannot fetch {url}: {error}") from error
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
        raise FetchError(f"{url} did not answer in time; try again later", passing=True) from error
    # ValueError: urllib3 and idna raise it for addresses that requests lets through.
    except (requests.RequestException, ValueError) as error:
        raise FetchError(
            f"cannot fetch {url}: check the address and the network connection",
            passing=isinstance(error, requests.ConnectionError | ChunkedEncodingError),
        ) from error


def _session(*, allow_loopback: bool) -> requests.Session:
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
        adapter = PublicAdapter(scheme == "https", allow_loopback=allow_loopback)
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
