"""A short way through the HTTP server for what meters and pages do all day: POST /v1/readings and GET /v1/usage.

Such a request is recognised by its head, which a kept connection repeats and which has to come in one segment. A small body
makes no task, no scope and no events; a large one is copied once, to where it is decoded, and not four times. All else
(other paths, chunked or compressed bodies, half heads, anything unusual) is left to uvicorn, whose parser sees every byte
that is not answered here.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from meterpulse.ingest import ARROW
from meterpulse.model.problem import Problem
from meterpulse.serving.intake import SLOW_BODY_SECONDS, Intake, slow
from meterpulse.serving.quick import QuickUsage
from meterpulse.serving.together import SMALL_BYTES, Small, Together, problem_of

_BEGIN = b"POST /v1/readings"
_ASK = b"GET /v1/usage?"
_END = b"\r\n\r\n"
_QUERY = re.compile(rb"[!\"$-~]*")  # no blank, no fragment
_LINE = re.compile(rb"POST /v1/readings(?:\?([!-~]*))? HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~\t]*)")
_LEFT_TO_UVICORN = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"))
_HEADS = 1_024
_HEAD_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's head says of its body."""

    length: int
    media_type: str
    source: str
    layout: str


_heads: dict[bytes, Head | None] = {}
_plain: dict[bytes, bool] = {}  # the headers of a GET: are they usual?


def head_of(head: bytes) -> Head | None:
    """The head of a POST /v1/readings, without its last empty line; None where it has anything unusual about it."""
    try:
        return _heads[head]
    except KeyError:
        if len(_heads) >= _HEADS:
            _heads.clear()
        return _heads.setdefault(head, _parsed(head))


def _parsed(head: bytes) -> Head | None:
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    headers = _headers(lines)
    if line is None or headers is None or len(head) > _HEAD_BYTES:
        return None
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 12 or int(length) == 0:
        return None
    query = parse_qs(line[1].decode("latin-1")) if line[1] else {}
    return Head(
        int(length),
        headers.get(b"content-type", b"").decode("latin-1"),
        query.get("source", ["http"])[-1][:200],
        query.get("layout", ["canonical"])[-1],
    )


def query_of(request: bytes) -> bytes | None:
    """The query string of a GET /v1/usage without a body and with nothing behind it; None for any other request."""
    first, _, rest = request[:-4].partition(b"\r\n")
    if not request.endswith(_END) or _END in rest or len(request) > 4 * _HEAD_BYTES or not first.endswith(b" HTTP/1.1"):
        return None
    query = first[len(_ASK) : -9]
    if not _QUERY.fullmatch(query):
        return None
    plain = _plain.get(rest)
    if plain is None:
        if len(_plain) >= _HEADS:
            _plain.clear()
        headers = _headers(rest.split(b"\r\n"))
        plain = _plain[rest] = headers is not None and b"content-length" not in headers
    return query if plain else None


def _headers(lines: list[bytes]) -> dict[bytes, bytes] | None:
    """Each header once, by its name in small letters; None where uvicorn has to look at them."""
    headers: dict[bytes, bytes] = {}
    for text in lines:
        match = _HEADER.fullmatch(text)
        if match is None:
            return None
        name = match[1].lower()
        if name in headers or name in _LEFT_TO_UVICORN:
            return None
        headers[name] = match[2].strip(b" \t")
    usual = headers.get(b"connection", b"keep-alive").lower() == b"keep-alive" and b"host" in headers
    return headers if usual else None


_spelled: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


def _common(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The headers of every answer; uvicorn makes a new list of them once a second."""
    global _spelled
    if _spelled[0] is not headers:
        _spelled = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
    return _spelled[1]


class _Coming:
    """A body that arrives: an Arrow stream is put together in one buffer, which the decoder reads where it lies."""

    def __init__(self, head: Head):
        self.head, self.got = head, 0
        self.is_arrow = head.media_type.startswith(ARROW) and head.length > SMALL_BYTES
        self._buffer = bytearray(head.length if self.is_arrow else 0)
        self._parts: list[bytes] = []

    def take(self, data: bytes) -> bytes:
        """Takes what belongs to the body; what is left of `data` stands behind it."""
        own = data[: self.head.length - self.got]
        if self.is_arrow:
            self._buffer[self.got : self.got + len(own)] = own
        else:
            self._parts.append(own)
        self.got += len(own)
        return data[len(own) :]

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here."""
        return self.got == self.head.length

    def body(self) -> bytes | bytearray:
        """All of it."""
        return self._buffer if self.is_arrow else b"".join(self._parts)


def protocol_of(intake: Intake, together: Together, quick: QuickUsage) -> type[asyncio.Protocol]:
    """The class that uvicorn makes its connections of."""

    class Wire(HttpToolsProtocol):
        """One connection: at most one body of it is under way, and what arrives behind it waits."""

        def __init__(self, *arguments: Any, **named: Any):
            super().__init__(*arguments, **named)
            self._between = True  # no half message is in uvicorn's parser
            self._is_under_way, self._closes = False, False
            self._coming: _Coming | None = None
            self._patience: asyncio.TimerHandle | None = None
            self._behind = b""

        def data_received(self, data: bytes) -> None:
            if self._coming is not None:
                self._more(self._coming, data)
                return
            if self._is_under_way:
                self._behind += data
                self.flow.pause_reading()
                return
            if self._is_free and data.startswith(_BEGIN):
                end = data.find(_END)
                head = head_of(data[:end]) if end > 0 else None
                if head is not None and self._admits(head):
                    self._unset_keepalive_if_required()
                    self._is_under_way = True
                    intake.hold(head.length)
                    self._more(_Coming(head), data[end + 4 :])
                    return
            elif self._is_free and data.startswith(_ASK) and (query := query_of(data)) is not None:
                answer = quick(query)
                if answer is not None:
                    self._reply(answer)
                    return
            super().data_received(data)

        def _admits(self, head: Head) -> bool:
            """Where not, the general way says why."""
            try:
                intake.admit(head.length)
            except Problem:
                return False
            return True

        def _more(self, coming: _Coming, data: bytes) -> None:
            rest = coming.take(data)
            if not coming.is_whole:
                if self._coming is None:
                    self._coming = coming
                    self._patience = self.loop.call_later(SLOW_BODY_SECONDS, self._lose_patience)
                return
            self._stop_waiting()
            self._behind = rest
            head, body = coming.head, coming.body()
            if len(body) <= SMALL_BYTES:
                intake.hold(-len(body))
                together.add(Small(bytes(body), head.media_type, head.source, head.layout, self._reply))
                return
            task = self.loop.create_task(self._decode(body, head))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

        async def _decode(self, body: bytes | bytearray, head: Head) -> None:
            answer: bytes | Problem
            try:
                answer = await intake.whole(body, head.media_type, head.source, head.layout)
            except Exception as error:
                answer = problem_of(error)
            finally:
                intake.hold(-head.length)
            self._reply(answer)

        def _stop_waiting(self) -> None:
            self._coming = None
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _lose_patience(self) -> None:
            if self._coming is not None:
                intake.hold(-self._coming.head.length)
                self._stop_waiting()
                self._closes = True
                self._reply(slow())

        def connection_lost(self, exc: Exception | None) -> None:
            if self._coming is not None:
                intake.hold(-self._coming.head.length)
                self._stop_waiting()
            super().connection_lost(exc)

        @property
        def _is_free(self) -> bool:
            """Nothing is half read, half answered or queued."""
            answered = self.cycle is None or self.cycle.response_complete
            return self._between and answered and not self.pipeline and not self.flow.write_paused

        def on_message_begin(self) -> None:
            self._between = False
            super().on_message_begin()

        def on_message_complete(self) -> None:
            self._between = True
            super().on_message_complete()

        def shutdown(self) -> None:
            if self._is_under_way:
                self._closes = True
            else:
                super().shutdown()

        def _reply(self, answer: bytes | Problem) -> None:
            self._is_under_way = False
            if self.transport.is_closing():
                return
            status, kind, more = 200, b"application/json", b""
            if isinstance(answer, Problem):
                status, kind = answer.status, b"application/problem+json"
                if answer.retry_after_seconds is not None:
                    more = b"retry-after: %d\r\n" % answer.retry_after_seconds
                answer = orjson.dumps(answer.document())
            if self._closes:
                more += b"connection: close\r\n"
            end = b"content-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (kind, len(answer), more)
            self.transport.write(
                b"".join((STATUS_LINE[status], _common(self.server_state.default_headers), end, answer))
            )
            self.server_state.total_requests += 1
            if self._closes:
                self.transport.close()
                return
            if self._behind:
                behind, self._behind = self._behind, b""
                self.flow.resume_reading()
                self.data_received(behind)
                return
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    return Wire
