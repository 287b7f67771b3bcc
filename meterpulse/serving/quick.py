"""GET /v1/usage for a page: a home's day is read and written in 0.5 ms, less than a thread and a framework take to begin.

Answered on the event loop, so only what is short; what is long, wrong or unusual is left to the general way, which gives
the same answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from meterpulse.model.problem import Problem
from meterpulse.model.window import GRAINS, instant_ms
from meterpulse.serving.answers import as_json, as_json_together
from meterpulse.serving.queries import UsageQuery, usage

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

_log = logging.getLogger("meterpulse")
_ROWS = 2_048
_TAKEN = {"channel", "start", "end", "grain"}


def _pairs(query: str) -> list[tuple[str, str]]:
    if "%" in query or "+" in query or ";" in query:
        return parse_qsl(query, keep_blank_values=True)
    return [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]


class QuickUsage:
    """Answers the query string of GET /v1/usage, or gives None where that is for others to do."""

    def __init__(self, pipeline: Pipeline):
        self._p = pipeline

    def __call__(self, query: bytes) -> bytes | None:
        pairs = _pairs(query.decode("latin-1"))
        given = dict(pairs)
        channels = [value for name, value in pairs if name == "channel"]
        grain, start, end = given.get("grain", "1h"), given.get("start"), given.get("end")
        if not (channels and start and end and grain in GRAINS and given.keys() <= _TAKEN):
            return None
        if len(pairs) != len(given) - 1 + len(channels):
            return None
        try:
            if (instant_ms(end) - instant_ms(start)) // GRAINS[grain] * len(channels) > _ROWS:
                return None
            answers = [usage(self._p, UsageQuery(channel, start=start, end=end, grain=grain)) for channel in channels]
        except (Problem, ValueError):
            return None
        except Exception:
            _log.exception("a usage query failed")
            return None
        return as_json(answers[0]) if len(answers) == 1 else as_json_together(answers)
