"""POST /v1/readings, spoken in plain ASGI: nothing between the socket and the decoder but a limit on bytes.

A body is refused by its length before it is read, is never held while too many others are, and is acknowledged when it is on
disk. Small bodies are decoded on the loop (20 µs), larger ones in a thread (the kernels release the interpreter).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson

from meterpulse.ingest import decompress
from meterpulse.model.priority import DECODING, step_back
from meterpulse.model.problem import Problem
from meterpulse.serving.together import problem_of

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

PATH = "/v1/readings"
_ON_THE_LOOP = 4_096
SLOW_BODY_SECONDS = 60

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Intake:
    """An ASGI application for one path. `answer_of` makes the body of a 200."""

    def __init__(self, pipeline: Pipeline, answer_of: Callable[[Any], dict[str, Any]]):
        self._p, self._answer_of = pipeline, answer_of
        self._max_bytes = pipeline.config.server.max_body_bytes
        self._max_waiting = pipeline.config.server.max_waiting_bytes
        self._held = 0
        self._threads = ThreadPoolExecutor(2, "decode", initializer=step_back, initargs=(DECODING,))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._take(scope, receive)
        except Problem as problem:
            await send_problem(send, problem, close=True)
            return
        except OSError as error:
            await send_problem(send, problem_of(error))
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Scope, receive: Receive) -> bytes:
        headers = {name: value for name, value in scope["headers"] if name in _WANTED}
        query = parse_qs(scope["query_string"].decode("latin-1")) if scope["query_string"] else {}
        media_type = headers.get(b"content-type", b"").decode("latin-1")
        encoding = headers.get(b"content-encoding", b"").decode("latin-1") or None
        source = query.get("source", ["http"])[-1][:200]
        layout = query.get("layout", ["canonical"])[-1]
        length = int(headers[b"content-length"]) if headers.get(b"content-length", b"").isdigit() else 0
        self.admit(length)
        held = length
        self._held += held
        try:
            async with asyncio.timeout(SLOW_BODY_SECONDS):
                body = await self._body(receive)
            if not length:
                held = len(body)
                self._held += held
            if encoding:
                body = decompress(body, encoding, self._max_bytes)
            return await self.whole(body, media_type, source, layout)
        except TimeoutError:
            raise slow() from None
        finally:
            self._held -= held

    def admit(self, length: int) -> None:
        """Raises Problem 413 and 503 where a body of `length` bytes is not read."""
        if length > self._max_bytes:
            detail = f"It has {length} bytes; send at most {self._max_bytes} at a time."
            raise Problem(413, "too-large", "The body is too large", detail)
        if self._held + length > self._max_waiting and self._held:
            detail = "Send the body again in a moment."
            raise Problem(503, "busy", "Too many bodies at once", detail, retry_after_seconds=1)

    def hold(self, bytes_more: int) -> None:
        """Counts bytes that are held for a body, or with a minus that are not any more."""
        self._held += bytes_more

    async def whole(self, body: bytes | bytearray, media_type: str, source: str, layout: str) -> bytes:
        """Decodes, logs, and gives the answer when it is on disk. Raises Problem and OSError."""
        loop = asyncio.get_running_loop()
        if len(body) <= _ON_THE_LOOP:
            decoded = self._p.take(bytes(body), media_type, source, layout)
        else:
            decoded = await loop.run_in_executor(self._threads, self._p.take, body, media_type, source, layout)
        del body
        if len(decoded.readings) or decoded.rejected:
            await self._p.submit(decoded, source, loop)
        return orjson.dumps(self._answer_of(decoded))

    async def _body(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "gone", "The client went away")
        if not message.get("more_body"):
            body = message.get("body", b"")
            if len(body) > self._max_bytes:
                raise Problem(
                    413, "too-large", "The body is too large", f"Send at most {self._max_bytes} bytes at a time."
                )
            return body
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem(400, "gone", "The client went away")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                raise Problem(
                    413, "too-large", "The body is too large", f"Send at most {self._max_bytes} bytes at a time."
                )
        return b"".join(parts)


_WANTED = frozenset((b"content-type", b"content-encoding", b"content-length"))


def slow() -> Problem:
    """A body took too long."""
    return Problem(408, "slow", "The body did not arrive", f"It took more than {SLOW_BODY_SECONDS} s.")


async def send_problem(send: Send, problem: Problem, *, close: bool = False) -> None:
    """An RFC 9457 document."""
    body = orjson.dumps(problem.document())
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    if problem.retry_after_seconds is not None:
        headers.append((b"retry-after", str(problem.retry_after_seconds).encode()))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
