"""Delivery to a running server: channels are registered, readings go as Arrow streams by dense index over one kept
connection.

A body is sent until the server has it: what it has already counts once, however often it comes.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterpulse.model.channel import NOT_FOUND
from meterpulse.model.reading import Readings
from meterpulse.simulator.city import City
from meterpulse.simulator.deliver import DeliveryError

ARROW = "application/vnd.apache.arrow.stream"
READINGS = pa.schema(
    [("channel", pa.uint32()), ("start", pa.timestamp("ms", "UTC")), ("seconds", pa.int32()), ("quantity", pa.int64())]
)
BUSY = {429, 502, 503, 504, 507}
_CHANNELS_PER_BODY, _CHANNELS_PER_PAGE = 1 << 16, 1 << 18


class HttpTarget:
    """A server at `url`. `sleep` waits a number of seconds; a silent server is tried `tries` times in a row.

    `accepted`, `quarantined` and `reasons` add up the server's answers. Raises DeliveryError where it refuses a body.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        rows_per_body: int = 1 << 18,
        timeout_seconds: float = 120,
        tries: int = 30,
        sleep: Callable[[float], object] = time.sleep,
    ):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DeliveryError(f"{url!r} is no address of a server; write it like http://127.0.0.1:8080")
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = make(parts.hostname, parts.port, timeout=timeout_seconds)
        self._base, self._headers = parts.path.rstrip("/"), headers or {}
        self._rows, self._tries, self._sleep = rows_per_body, tries, sleep
        self._index = np.empty(0, np.uint32)
        self.accepted = self.quarantined = self.waited = 0
        self.reasons: Counter[str] = Counter()

    def prepare(self, city: City) -> None:
        """Register the city's channels and learn the server's indices for them."""
        for table in city.tables(_CHANNELS_PER_BODY):
            self._call("POST", "/v1/channels", _stream(table.schema, table.to_batches()), ARROW)
        self._index = self._indices(city)
        missing = np.flatnonzero(self._index == NOT_FOUND)
        if len(missing):
            id = city.ids(missing[:1])[0]
            raise DeliveryError(f"the server lists {len(missing)} of the city's channels not at all, such as {id}")

    def send(self, readings: Readings) -> None:
        """Post the readings in bodies of up to `rows_per_body`; returns when all are acknowledged."""
        for first in range(0, len(readings), self._rows):
            part = readings.take(slice(first, first + self._rows)) if len(readings) > self._rows else readings
            columns = (self._index[part.channel], part.full("start"), part.full("seconds"), part.quantity)
            arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, READINGS, strict=True)]
            body = _stream(READINGS, [pa.record_batch(arrays, schema=READINGS)])
            answer = json.loads(self._call("POST", "/v1/readings?source=simulator", body, ARROW))
            self.accepted += answer["accepted"]
            self.quarantined += answer["quarantined"]
            self.reasons.update(answer.get("reasons") or {})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _indices(self, city: City) -> np.ndarray:
        """uint32[channels]: the server's dense index of each, read page by page, so that a fleet needs no room for
        its texts.
        """
        out = np.full(city.count, NOT_FOUND, np.uint32)
        after = 0
        while True:
            page = pa.ipc.open_stream(
                self._call("GET", f"/v1/channels.arrow?after={after}&limit={_CHANNELS_PER_PAGE}", None, None)
            ).read_all()
            for batch in page.select(["id", "index"]).combine_chunks().to_batches():
                own = city.find(batch.column("id"))
                index = pc.cast(batch.column("index"), pa.uint32()).to_numpy(zero_copy_only=False)
                out[own[own >= 0]] = index[own >= 0]
                after = int(index[-1]) + 1
            if page.num_rows < _CHANNELS_PER_PAGE:
                return out

    def _call(self, method: str, path: str, body: Any, media_type: str | None) -> bytes:
        """The server's answer of 2xx, the same body sent again for as long as it is busy or cannot be reached."""
        headers = self._headers | ({"content-type": media_type} if media_type else {})
        silent = 0
        while True:
            try:
                self._connection.request(method, self._base + path, body, headers)
                answer = self._connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                silent += 1
                if silent == self._tries:
                    host = f"{self._connection.host}:{self._connection.port}"
                    raise DeliveryError(
                        f"{host} cannot be reached ({error}); start it with `meterpulse up`, or give another --to"
                    ) from error
                self._wait(min(0.1 * 2 ** (silent - 1), 5.0))
                continue
            if answer.status in BUSY:
                silent = 0
                self._wait(_retry_after(answer.headers.get("Retry-After")))
            elif answer.status // 100 == 2:
                return content
            else:
                raise DeliveryError(f"{method} {path} was answered with {answer.status}: {_detail(content)}")

    def _wait(self, seconds: float) -> None:
        self.waited += 1
        self._sleep(seconds)


def _stream(schema: pa.Schema, batches: list[pa.RecordBatch]) -> memoryview:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return memoryview(sink.getvalue())


def _retry_after(text: str | None) -> float:
    """Seconds to wait: as the server says (a number or a date), from 0.05 to 60; a second where it does not say."""
    try:
        seconds = float(text or 1)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text or "").timestamp() - time.time()
        except ValueError:
            seconds = 1.0
    return min(max(seconds, 0.05), 60.0)


def _detail(body: bytes) -> str:
    """What a problem document says, or the beginning of whatever came."""
    try:
        problem = json.loads(body)
        return str(problem.get("detail") or problem.get("title") or problem)[:400]
    except (ValueError, AttributeError):
        return body[:400].decode(errors="replace")
