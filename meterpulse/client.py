"""A running server, seen from the same machine: find it by its data directory, talk to it over HTTP.

The server writes `<data>/server.json` when it is ready and removes it when it ends; one that was killed leaves it
behind, so a file alone proves nothing and the address is asked.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from meterpulse.model.problem import Problem

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
SERVER_FILE = "server.json"
_BUSY = (429, 503)

Query = Mapping[str, str | int | Sequence[str] | None]


class Unreachable(ConnectionError):
    """No server answers there."""


class Client:
    """One keep-alive connection to a server. Answers of 400 and above raise Problem; no answer raises Unreachable."""

    def __init__(self, url: str, *, timeout_seconds: float = 60.0):
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Problem(
                400, "bad-url", "Not the address of a server", f"{url!r}; write it like http://127.0.0.1:8321"
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._base = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str, query: Query | None = None) -> bytes:
        """The body of a GET. Entries of `query` that are None are left out; a sequence is repeated."""
        return self._ask("GET", _with(path, query))

    def get_json(self, path: str, query: Query | None = None) -> Any:
        """The parsed JSON body of a GET."""
        return json.loads(self.get(path, query))

    def stream(self, path: str, query: Query | None = None) -> Iterator[bytes]:
        """The body of a GET, piece by piece; raises Unreachable where it ends before it is whole."""
        response = self._open("GET", _with(path, query), None, {})
        try:
            while piece := response.read1(1 << 20):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(f"{self.url} broke off: {error}; its log says why") from None

    def post(self, path: str, body: bytes, media_type: str = JSON, query: Query | None = None) -> Any:
        """The parsed JSON answer of a POST. While the server is busy, waits and sends again for two minutes.

        Sending a body twice is safe: a reading counts once.
        """
        give_up = time.monotonic() + 120
        while True:
            try:
                return json.loads(self._ask("POST", _with(path, query), body, media_type) or b"null")
            except Problem as problem:
                if problem.status not in _BUSY or time.monotonic() > give_up:
                    raise
                time.sleep(min(problem.retry_after_seconds or 1, 10))

    def delete(self, path: str, query: Query | None = None) -> Any:
        """The parsed JSON answer of a DELETE."""
        return json.loads(self._ask("DELETE", _with(path, query)) or b"null")

    def channel(self, id: str) -> dict[str, Any] | None:
        """The public shape of one channel, None where it does not exist."""
        try:
            return self.get_json(f"/v1/channels/{quote(id, safe='')}")
        except Problem as problem:
            if problem.status == 404:
                return None
            raise

    def events(self, path: str, query: Query | None = None) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (name, parsed data), until the server closes the stream."""
        response = self._open("GET", _with(path, query), None, {"accept": "text/event-stream"})
        name, data = "message", []
        for line in response:
            field, _, value = line.decode().rstrip("\r\n").partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                data.append(value.removeprefix(" "))
            elif not field and not value and data:
                yield name, json.loads("\n".join(data))
                name, data = "message", []

    def _ask(self, method: str, path: str, body: bytes | None = None, media_type: str | None = None) -> bytes:
        return self._open(method, path, body, {"content-type": media_type} if media_type else {}).read()

    def _open(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        fresh = self._connection.sock is None
        try:
            self._connection.request(method, self._base + path, body, headers)
            response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if not fresh:  # the server closed an idle connection
                return self._open(method, path, body, headers)
            raise Unreachable(
                f"{self.url} does not answer ({error}); is the server up? `meterpulse up` starts one"
            ) from None
        if response.status >= 400:
            raise _problem(response)
        return response


def find_server(data: Path, *, timeout_seconds: float = 5.0) -> Client | None:
    """The server that has `data` open, or None where there is none."""
    try:
        url = json.loads((Path(data) / SERVER_FILE).read_text(encoding="utf-8"))["url"]
        client = Client(url, timeout_seconds=timeout_seconds)
        client.get("/health/live")
    except (OSError, ValueError, KeyError, TypeError, Problem):
        return None
    client.close()
    return Client(url)


def _with(path: str, query: Query | None) -> str:
    pairs = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path


def _problem(response: http.client.HTTPResponse) -> Problem:
    body, wait = response.read(), response.headers.get("retry-after", "")
    try:
        document = json.loads(body)
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    kind = str(document.get("type", "about:blank")).rpartition(":")[2]
    title = str(document.get("title") or response.reason)
    detail = str(document.get("detail") or "")
    return Problem(response.status, kind, title, detail, retry_after_seconds=int(wait) if wait.isdecimal() else None)
