"""S3 for keys that obstore cannot name: with empty, '.' or '..' parts, or a slash at either end.

obstore takes keys for paths: it refuses such keys, or lists '/a.jpg' as 'a.jpg'.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.loopback import without_proxy

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from requests import Response, Session

PAGE = 1000
_RETRIES = 5
_SECONDS = 60.0
_MAX_ANSWER = 16 * 1024 * 1024  # a page of keys
_EMPTY = hashlib.sha256(b"").hexdigest()


def is_needed(key: str) -> bool:
    """Whether only this client can name a key."""
    return not {"", ".", ".."}.isdisjoint(key.split("/"))


class PlainS3:
    """One bucket, by requests that are signed here (AWS Signature, version 4)."""

    def __init__(self, bucket: str, access: Access) -> None:
        """Credentials come from the usual environment variables.

        Raises:
            SourceError: there are none, and requests are to be signed.
        """
        config = access.config("s3")
        self._region = config.get("region", "us-east-1")
        self._bucket = bucket
        endpoint = access.endpoint("s3")
        self._base = f"https://{bucket}.s3.{self._region}.amazonaws.com"
        if endpoint:
            self._base = f"{endpoint.rstrip('/')}/{bucket}"
        self._signs = config.get("skip_signature") != "true"
        self._key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        self._secret = os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        if self._signs and not (self._key and self._secret):
            raise SourceError(
                f"s3://{bucket} holds keys with an empty, '.' or '..' part, which can be read with "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only"
            )

    def list(self, prefix: str, after: str) -> Iterator[list[dict[str, Any]]]:
        """The objects under a prefix, behind a key, in the order of their keys, page by page."""
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(PAGE)}
        query |= {"start-after": after} if after else {}
        while True:
            tree = self._xml(query)
            yield [
                {
                    "path": _text(item, "Key"),
                    "size": int(_text(item, "Size") or 0),
                    "e_tag": _text(item, "ETag"),
                    "last_modified": None,
                }
                for item in tree.iter()
                if _name(item) == "Contents"
            ]
            if _text(tree, "IsTruncated") != "true":
                return
            query["continuation-token"] = _text(tree, "NextContinuationToken")

    def head(self, key: str) -> dict[str, Any]:
        """What the store says of an object."""
        with self._request("HEAD", key) as answer:
            size = int(answer.headers.get("Content-Length", 0))
            return {"path": key, "size": size, "e_tag": answer.headers["ETag"]}

    def get(self, key: str, *, limit: int, start: int = 0) -> bytes:
        """An object's bytes from `start` on, `limit` at the most."""
        span = {"Range": f"bytes={start}-{start + limit - 1}"}
        with self._request("GET", key, headers=span) as answer:
            return bytes(answer.raw.read(limit, decode_content=False))

    def _xml(self, query: Mapping[str, str]) -> Element:
        from xml.etree.ElementTree import ParseError, fromstring

        with self._request("GET", "", query=query) as answer:
            data: bytes = answer.raw.read(_MAX_ANSWER, decode_content=True)
        try:
            if b"<!DOCTYPE" in data:  # entities, of which few bytes make many
                raise ValueError("a document type")
            return fromstring(data)  # noqa: S314
        except (ParseError, ValueError) as error:
            raise SourceError(f"the store of s3://{self._bucket} answered no XML") from error

    def _request(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        import requests

        # As `requests` leaves it: it would take '..' for a step up.
        path = "/".join(
            part.replace(".", "%2E") if part in (".", "..") else part
            for part in quote(key, safe="/~").split("/")
        )
        fields = sorted((query or {}).items())
        text = "&".join(f"{quote(k, safe='~')}={quote(v, safe='~')}" for k, v in fields)
        url = f"{self._base}/{path}" + (f"?{text}" if text else "")
        signed = self._signature(method, key, text) if self._signs else {}
        try:
            answer = _session(url).request(
                method, url, headers={**signed, **(headers or {})}, stream=True, timeout=_SECONDS
            )
        except requests.RequestException as error:
            raise SourceError(f"cannot reach the store of s3://{self._bucket}") from error
        if answer.status_code == 404:
            answer.close()
            raise FileNotFoundError(key)
        if answer.status_code >= 300:
            answer.close()
            raise SourceError(f"the store of s3://{self._bucket} answered {answer.status_code}")
        return answer

    def _signature(self, method: str, key: str, query: str) -> dict[str, str]:
        parts = urlsplit(self._base)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": now}
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        names = ";".join(sorted(headers))
        canonical = "\n".join(
            (
                method,
                f"{parts.path}/{quote(key, safe='/~')}",
                query,
                *(f"{name}:{headers[name]}" for name in sorted(headers)),
                "",
                names,
                _EMPTY,
            )
        )
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signing = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            signing = hmac.digest(signing, part.encode(), "sha256")
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        signature = hmac.digest(signing, text.encode(), "sha256").hex()
        headers.pop("host")
        credential = f"Credential={self._key}/{scope}"
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


@lru_cache(maxsize=8)
def _sessions(is_loopback: bool) -> Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    session.trust_env = not is_loopback
    again = Retry(_RETRIES, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
    session.mount("http://", HTTPAdapter(max_retries=again))
    session.mount("https://", HTTPAdapter(max_retries=again))
    return session


def _session(url: str) -> Session:
    return _sessions(without_proxy(url))


def _name(item: Element) -> str:
    return item.tag.rpartition("}")[2]


def _text(item: Element, name: str) -> str:
    return next((child.text or "" for child in item if _name(child) == name), "")
