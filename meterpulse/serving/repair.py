"""A question that meets a damaged part of the store gets an answer that says so, and starts its repair: the day becomes dirty."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from meterpulse.model.problem import Problem
from meterpulse.model.window import day_text, utc_day
from meterpulse.stores import CorruptChunk, StoreDamaged

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

P = ParamSpec("P")
T = TypeVar("T")


def repairs(question: Callable[Concatenate[Pipeline, P], T]) -> Callable[Concatenate[Pipeline, P], T]:
    """Of a function whose first argument is the pipeline: it raises Problem 503, with when to ask again, on damage."""

    @wraps(question)
    def asked(p: Pipeline, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return question(p, *args, **kwargs)
        except CorruptChunk as error:
            day = utc_day(error.start_ms)
            if day not in p.engine.marks:
                p.alarm(f"{error}; {day_text(day)} is rebuilt by itself")
            p.engine.doubt(day)
            detail = f"{day_text(day)} is being rebuilt from its readings; ask again in a moment."
            raise Problem(503, "damaged", "A part of the store is damaged", detail, retry_after_seconds=2) from error
        except StoreDamaged as error:
            raise Problem(503, "damaged", "The store is damaged", str(error), retry_after_seconds=30) from error

    return asked
