"""A load generator that costs little: prebuilt requests over kept connections, in a process of its own.

Open loop: request k is meant to leave at start + k / rate, whether or not the server keeps up, and its latency counts from
then; so a server that stalls is charged for everybody who had to wait. With rate None every connection sends its next
request when it has the answer to the last (closed loop: the greatest rate that this many connections reach).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvloop


@dataclass
class Outcome:
    """Latencies in seconds in the order of the answers, answers by status, how long it all took, and the answers that were
    kept, as (number of the request, head and body)."""

    latency: np.ndarray
    statuses: dict[int, int]
    seconds: float
    answers: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latency) / self.seconds

    def quantile_ms(self, q: float) -> float:
        """Of the latencies, in milliseconds."""
        return float(np.quantile(self.latency, q)) * 1e3 if len(self.latency) else float("nan")


def post(path: str, body: bytes, kind: str) -> bytes:
    """The bytes of a POST on a kept connection."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def get(path: str) -> bytes:
    """The bytes of a GET on a kept connection."""
    return f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode()


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run):
        self._run, self._got, self._need = run, b"", -1
        self.meant, self.number = 0.0, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._got = self._got + data if self._got else data
        if self._need < 0:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._got[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 : (head + b"\r").index(b"\r", at)]) if at >= 0 else 0
            self._need = end + 4 + length
        if len(self._got) >= self._need:
            answer, self._got, self._need = self._got, b"", -1
            self._run.answered(self, answer)

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(error)


class _Run:
    def __init__(self, requests: Sequence[bytes], rate: float | None, keep_every: int):
        self._requests, self._rate, self._keep_every = requests, rate, keep_every
        self._next, self._answered = 0, 0
        self._latency = np.empty(len(requests))
        self._statuses: dict[int, int] = {}
        self._answers: list[tuple[int, bytes]] = []
        self._free: deque[_Connection] = deque()
        self._finished = False

    async def go(self, port: int, connections: int) -> Outcome:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        for _ in range(connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port)
            self._free.append(connection)
        self._began = time.perf_counter()
        self._tick(loop)
        await self._done
        self._finished = True
        seconds = time.perf_counter() - self._began
        while self._free:
            self._free.pop().transport.close()
        return Outcome(self._latency[: self._answered].copy(), self._statuses, seconds, self._answers)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._send_due()
        if self._rate is not None and self._next < len(self._requests):
            loop.call_later(0.001, self._tick, loop)

    def _send_due(self) -> None:
        now = time.perf_counter()
        due = len(self._requests)
        if self._rate is not None:
            due = min(due, int((now - self._began) * self._rate) + 1)
        while self._free and self._next < due:
            connection = self._free.popleft()
            connection.meant = now if self._rate is None else self._began + self._next / self._rate
            connection.number = self._next
            connection.transport.write(self._requests[self._next])
            self._next += 1

    def answered(self, connection: _Connection, answer: bytes) -> None:
        self._latency[self._answered] = time.perf_counter() - connection.meant
        self._answered += 1
        status = int(answer[9:12])
        self._statuses[status] = self._statuses.get(status, 0) + 1
        if self._keep_every and connection.number % self._keep_every == 0:
            self._answers.append((connection.number, answer))
        self._free.append(connection)
        if self._answered == len(self._requests):
            self._done.set_result(None)
        else:
            self._send_due()

    def lost(self, error: Exception | None) -> None:
        if not self._finished and not self._done.done():
            self._done.set_exception(ConnectionError(f"the server closed a connection: {error}"))


def drive(
    port: int, requests: Sequence[bytes], connections: int, rate: float | None = None, *, keep_every: int = 0
) -> Outcome:
    """Sends all requests in this process; returns the answer to every `keep_every`-th request too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Run(requests, rate, keep_every).go(port, connections))


class Generator:
    """A process of its own that makes its requests, waits to be told, and reports. `work(*arguments)` is a generator: it
    yields once when it is ready, and once more with its result, which must pickle."""

    def __init__(self, work: Callable[..., Any], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, work, arguments), daemon=True)
        self._process.start()
        there.close()
        self._pipe.recv()

    def start(self) -> None:
        """Now."""
        self._pipe.send(None)

    def result(self) -> Any:
        """Waits for the second yield; raises what went wrong there."""
        found = self._pipe.recv()
        self._process.join()
        if isinstance(found, BaseException):
            raise found
        return found


def _work(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        steps = work(*arguments)
        pipe.send(next(steps))
        pipe.recv()
        pipe.send(next(steps))
    except BaseException as error:
        pipe.send(error)
        raise
