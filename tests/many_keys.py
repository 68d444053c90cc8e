"""A store that only lists keys, which it makes up: `python -m tests.many_keys PORT KEYS FOLDERS`.

`GET /count` says how many keys have been sent.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
sent = 0


def main() -> None:
    port, keys, folders = map(int, sys.argv[1:])
    each = keys // folders

    def key(number: int) -> str:
        return f"folder-{number // each:05}/photo-{number % each:08}.jpg"

    def first_after(text: str) -> int:
        """How many keys are not behind a text."""
        low, high = 0, keys
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if key(middle) <= text else (low, middle)
        return low

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            global sent  # noqa: PLW0603 - the one thing that this process remembers
            address = urlsplit(self.path)
            if address.path == "/count":
                return self.answer(str(sent))
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            after = asked.get("continuation-token") or asked.get("start-after", "")
            start = first_after(after)
            stop = min(start + PAGE, keys)
            sent += stop - start
            more = f"<NextContinuationToken>{key(stop - 1)}</NextContinuationToken>"
            items = "".join(
                f"<Contents><Key>{key(number)}</Key><Size>10</Size><ETag>&quot;{number}&quot;"
                "</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for number in range(start, stop)
            )
            self.answer(
                f"<ListBucketResult><IsTruncated>{str(stop < keys).lower()}</IsTruncated>"
                f"{more if stop < keys else ''}{items}</ListBucketResult>"
            )

        def answer(self, text: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
