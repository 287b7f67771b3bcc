"""Many small bodies as one: what arrives while the last group goes to disk is decoded and logged together.

Ten thousand meters that post one reading each cost a decoder's and a log entry's set-up per group, not per reading. Single
JSON objects are joined as the lines of one NDJSON body; unless every line of it is good, each body is decoded by itself, so
nobody's answer depends on the neighbours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from meterpulse.ingest import JSON, NDJSON, Decoded
from meterpulse.log import LogFull
from meterpulse.model.problem import Problem

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

SMALL_BYTES = 4_096
_GROUPS_UNDER_WAY = 2
_KINDS = (JSON, NDJSON)

Reply = Callable[[bytes | Problem], None]


@dataclass(frozen=True, slots=True)
class Small:
    """A body of up to SMALL_BYTES and what answers it: with the JSON of a 200 when it is on disk, or with a problem."""

    body: bytes
    media_type: str
    source: str
    layout: str
    reply: Reply

    @property
    def is_one_object(self) -> bool:
        """Whether it can be a line among others."""
        return self.media_type in _KINDS and self.body[:1] == b"{" and self.body[-1:] == b"}" and b"\n" not in self.body


class Together:
    """Lives on the event loop. `answer_of` makes the body of a 200."""

    def __init__(self, pipeline: Pipeline, answer_of: Callable[[Decoded], dict[str, Any]]):
        self._p, self._answer_of = pipeline, answer_of
        self._waiting: list[Small] = []
        self._under_way, self._is_due = 0, False

    def add(self, small: Small) -> None:
        """Joins the next group, which leaves when what is ready on all sockets has been read."""
        self._waiting.append(small)
        self._leave_soon()

    def _leave_soon(self) -> None:
        if self._waiting and not self._is_due and self._under_way < _GROUPS_UNDER_WAY:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._leave)

    def _leave(self) -> None:
        self._is_due = False
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple[str, str] | int, list[Small]] = {}
        for small in waiting:
            groups.setdefault((small.source, small.layout) if small.is_one_object else id(small), []).append(small)
        for group in groups.values():
            if len(group) == 1 or not self._log_as_one(group):
                for small in group:
                    self._log(
                        [small],
                        lambda small=small: self._p.take(small.body, small.media_type, small.source, small.layout),
                    )

    def _log_as_one(self, group: list[Small]) -> bool:
        try:
            decoded = self._p.take(b"\n".join([s.body for s in group]), NDJSON, group[0].source, group[0].layout)
        except Problem:
            return False
        if decoded.rejected or len(decoded.readings) != len(group):
            return False
        self._log(group, lambda: decoded)
        return True

    def _log(self, group: list[Small], take: Callable[[], Decoded]) -> None:
        """Sends the readings of one body, or one of each, to the log; answers when they are on disk."""
        try:
            decoded = take()
            each = decoded if len(group) == 1 else Decoded(decoded.readings.take(slice(0, 1)), [])
            answer = orjson.dumps(self._answer_of(each))
            if not len(decoded.readings) and not decoded.rejected:
                _reply(group, answer)
                return
            future = self._p.submit(decoded, group[0].source, asyncio.get_running_loop())
        except Exception as error:
            _reply(group, problem_of(error))
            return
        self._under_way += 1
        future.add_done_callback(lambda done: self._logged(group, answer, done))

    def _logged(self, group: list[Small], answer: bytes, done: Any) -> None:
        self._under_way -= 1
        error = done.exception()
        _reply(group, answer if error is None else problem_of(error))
        self._leave_soon()


def _reply(group: list[Small], answer: bytes | Problem) -> None:
    for small in group:
        small.reply(answer)


def problem_of(error: BaseException) -> Problem:
    """What a sender is told when readings could not be taken."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, LogFull):
        return Problem(507, "full", "No room to keep readings", str(error), retry_after_seconds=10)
    if isinstance(error, OSError):
        return Problem(503, "disk", "The disk refused", str(error), retry_after_seconds=5)
    return Problem(500, "internal", "The server made a mistake", f"{type(error).__name__}; see its log.")


__all__ = ["Small", "SMALL_BYTES", "Together", "problem_of"]
