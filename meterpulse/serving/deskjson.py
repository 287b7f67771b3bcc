"""What the desk shows as JSON: exceptions, changes, previews and single intervals, quantities exact in the channel's unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from meterpulse.model.quality import Quality, code_of, nem12_of
from meterpulse.model.quantity import BY_CODE, Unit
from meterpulse.model.window import iso
from meterpulse.serving.answers import iso_texts, numbers
from meterpulse.serving.wording import title_of, words_of
from meterpulse.worklist import Item
from meterpulse.worklist.edits import Change
from meterpulse.worklist.proposals import MISSING, Values

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline


@dataclass(frozen=True)
class Span:
    """Intervals of one channel that something is to be decided about; `number` is that of the exception, if there is one."""

    channel: int
    start_ms: int
    end_ms: int
    number: int | None = None


@dataclass(frozen=True)
class Trial:
    """What an action would do to one span: the proposal, or why there is none."""

    span: Span
    values: Values
    quantity: np.ndarray
    quality: np.ndarray
    refused: str | None = None


def exception_shape(p: Pipeline, item: Item) -> dict[str, Any]:
    """An exception in a list."""
    unit = unit_of_channel(p, item.channel)
    return {
        "number": item.number,
        "channel": id_of(p, item.channel),
        "utility": item.utility,
        "area": item.area,
        "rule": item.rule,
        "title": title_of(item.rule),
        "words": words_of(item.rule, item.measured, item.limit, unit),
        "start": iso(item.start_ms),
        "end": iso(item.end_ms),
        "seconds": item.step_ms // 1000,
        "measured": item.measured,
        "limit": item.limit,
        "quantity": numbers(np.array([item.quantity]), unit)[0],
        "unit": unit.name,
        "weight": item.weight / 1000,
        "state": item.state,
        "assignee": item.assignee,
        "resolution": item.resolution,
        "change": item.change,
        "opened": iso(item.opened_ms),
        "changed": iso(item.changed_ms),
    }


def change_shape(p: Pipeline, one: Change) -> dict[str, Any]:
    """A change in a list."""
    return {
        "change": one.number,
        "at": iso(one.at_ms),
        "author": one.author,
        "action": one.action,
        "reason": one.reason,
        "undoes": one.undoes,
        "undone": one.undone,
        "edits": one.edits,
        "values": one.values,
        "channels": [id_of(p, channel) for channel in one.channels],
        "start": None if one.start_ms is None else iso(one.start_ms),
        "end": None if one.end_ms is None else iso(one.end_ms),
    }


def trial_shape(p: Pipeline, trial: Trial) -> dict[str, Any]:
    """One span of a preview: its intervals with what stands and what is proposed."""
    unit, (before, after) = unit_of_channel(p, trial.span.channel), sums_of(trial)
    rows = interval_shapes(trial.values, unit)
    proposed = numbers(trial.quantity, unit) if len(trial.quantity) else [row["effective"] for row in rows]
    for row, value in zip(rows, proposed, strict=True):
        row["proposed"] = value
    sums = dict(
        zip(("before", "after", "difference"), numbers(np.array([before, after, after - before]), unit), strict=True)
    )
    return span_shape(p, trial.span) | {"unit": unit.name} | sums | {"intervals": rows}


def spark_shape(values: Values, unit: Unit) -> dict[str, Any]:
    """The values around an exception as two short lists, for a small drawing; null where there is no value."""
    shown = {"start": iso(values.start_ms), "seconds": values.step_ms // 1000}
    for name, quantity, quality in (
        ("measured", values.raw, values.raw_quality),
        ("effective", values.effective, values.quality),
    ):
        shown[name] = [
            v if known else None for v, known in zip(numbers(quantity, unit), quality != MISSING, strict=True)
        ]
    return shown


def interval_shapes(values: Values, unit: Unit) -> list[dict[str, Any]]:
    """Each interval: what was measured, what stands, and how good that is; null where there is no value."""
    starts = iso_texts(values.start_ms + values.step_ms * np.arange(len(values), dtype=np.int64))
    raw, effective = numbers(values.raw, unit), numbers(values.effective, unit)
    return [
        {
            "start": start,
            "raw": None if raw_quality == MISSING else measured,
            "effective": None if quality == MISSING else stands,
            "quality": None if quality == MISSING else Quality(code_of(quality)).word,
            "mark": None if quality == MISSING else mark_of(quality),
        }
        for start, measured, raw_quality, stands, quality in zip(
            starts, raw, values.raw_quality.tolist(), effective, values.quality.tolist(), strict=True
        )
    ]


def mark_of(quality: int) -> str:
    """NEM12's flag and method in one text: A, S17, F16."""
    flag, method = nem12_of(quality)
    return f"{flag}{method:02d}" if method else flag


def total_shape(utility: str, unit: str, before: int, after: int, changed: int) -> dict[str, Any]:
    """What a preview changes of one utility; `moved` adds up what every interval changes by."""
    of = next(u for u in BY_CODE if u.name == unit)
    sums = numbers(np.array([before, after, after - before, changed]), of)
    return {"utility": utility, "unit": unit} | dict(zip(("before", "after", "difference", "moved"), sums, strict=True))


def span_shape(p: Pipeline, span: Span) -> dict[str, Any]:
    """Where something is."""
    shown = {"channel": id_of(p, span.channel), "start": iso(span.start_ms), "end": iso(span.end_ms)}
    return shown if span.number is None else {"number": span.number} | shown


def sums_of(trial: Trial) -> tuple[int, int]:
    """What stands in the span before and after; unknown intervals add nothing."""
    before = int(trial.values.effective[trial.values.quality != MISSING].sum())
    return before, int(trial.quantity.sum()) if len(trial.quantity) else before


def unit_of_channel(p: Pipeline, channel: int) -> Unit:
    """The unit that a channel's quantities are told in."""
    table = p.registry.table
    return BY_CODE[int(table.profiles.unit[int(table.profile[channel])])]


def id_of(p: Pipeline, channel: int) -> str:
    """The id of a channel."""
    return str(p.registry.table.ids(np.array([channel], np.uint32))[0].as_py())
