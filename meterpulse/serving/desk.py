"""What people decide about values, over the whole city: look at exceptions, try an action, commit it, take it back."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from meterpulse.model.channel import NOT_FOUND, Kind
from meterpulse.model.problem import Problem
from meterpulse.model.quantity import OutOfRange, Unit, to_thousandths
from meterpulse.model.window import DAY_MS, day_text, instant_ms, iso, utc_day
from meterpulse.serving.deskjson import (
    Span,
    Trial,
    change_shape,
    exception_shape,
    interval_shapes,
    span_shape,
    spark_shape,
    sums_of,
    total_shape,
    trial_shape,
    unit_of_channel,
)
from meterpulse.serving.values import step_ms_of, values_of
from meterpulse.serving.wording import title_of
from meterpulse.worklist import ACTIONS, Edit, EditError, Filter, Item, Mode
from meterpulse.worklist.proposals import MISSING, CannotPropose, Surroundings, Values, propose

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

AT_ONCE = 10_000  # exceptions in one decision
_SHOWN = 100  # of them in a preview, interval by interval
_CONTEXT_MS = DAY_MS // 2
_SPARK_MS = DAY_MS // 2


# -- exceptions ----------------------------------------------------------------------------------------------------------


def exceptions(
    p: Pipeline, which: Filter, sort: str, after: str | None, limit: int, around: str | None = None
) -> dict[str, Any]:
    """The JSON of /v1/exceptions; with `around="values"` each has the values around it. Raises Problem 422."""
    if around not in (None, "", "values"):
        raise Problem(422, "around", "Around what?", f"{around!r}; around takes values.")
    items, more = p.desk.exceptions.page(which, sort=sort, after=after, limit=limit)
    shapes = [exception_shape(p, item) for item in items]
    if around:
        for shape, item in zip(shapes, items, strict=True):
            shape["around"] = spark_shape(_around(p, item), unit_of_channel(p, item.channel))
    counts = p.desk.exceptions.counts(which)
    return {
        "exceptions": shapes,
        "next": more,
        "counts": [{**count, "title": title_of(count["rule"])} for count in counts],
    }


def _around(p: Pipeline, item: Item) -> Values:
    """An exception's values and as many as there are room for on both sides: at most a day and a half in all."""
    step = step_ms_of(p, item.channel)
    side = _CONTEXT_MS // step * step
    end = min(item.end_ms, item.start_ms + _SPARK_MS // step * step)
    return values_of(p, item.channel, item.start_ms - side, end + side)


def exception(p: Pipeline, number: int) -> dict[str, Any]:
    """One exception with its history and its values, half a day on both sides. Raises Problem 404."""
    item, events = p.desk.exceptions.get(number)
    step = step_ms_of(p, item.channel)
    around = _CONTEXT_MS // step * step
    values = values_of(p, item.channel, item.start_ms - around, item.end_ms + around)
    return {
        **exception_shape(p, item),
        "history": [
            {"at": iso(e.at_ms), "event": e.event, "author": e.author, "note": e.note, "change": e.change} for e in events
        ],
        "intervals": interval_shapes(values, unit_of_channel(p, item.channel)),
    }  # fmt: skip


def filter_of(p: Pipeline, given: dict[str, Any]) -> Filter:
    """From texts as the API takes them. Raises Problem 404 for an unknown channel, 422."""
    wanted = {name: given.get(name) for name in ("state", "rule", "utility", "area", "assignee")}
    if given.get("channel") is not None:
        wanted["channel"] = channel_of(p, given["channel"])
    for name in ("start", "end", "opened_before"):
        if given.get(name) is not None:
            wanted[f"{name}_ms"] = _instant(given[name])
    return Filter(**wanted)


def assign(p: Pipeline, numbers: Sequence[int], assignee: str | None, author: str) -> dict[str, Any]:
    """Raises Problem 404, 409."""
    p.desk.exceptions.assign(numbers, assignee, author=author, at_ms=p.clock())
    return {"assigned": len(numbers), "assignee": (assignee or "").strip() or None}


# -- deciding ------------------------------------------------------------------------------------------------------------


def spans_of(p: Pipeline, chosen: Sequence[int] | None, which: Filter | None) -> list[Span]:
    """The spans of exceptions, by number or by filter (then those that wait). Raises Problem 404, 422."""
    if (chosen is None) == (which is None):
        raise Problem(422, "exceptions", "Which exceptions?", "Give either exceptions (numbers) or a filter.")
    if which is not None:
        items, more = p.desk.exceptions.page(which, limit=AT_ONCE)
    else:
        items, more = p.desk.exceptions.items(list(dict.fromkeys(chosen or []))[: AT_ONCE + 1]), None
    if more is not None or len(items) > AT_ONCE:
        raise Problem(422, "exceptions", "Too many at once", f"Decide about up to {AT_ONCE}; narrow the filter.")
    if not items:
        raise Problem(422, "exceptions", "Which exceptions?", "There are none of that kind.")
    return [Span(item.channel, item.start_ms, item.end_ms, item.number) for item in items]


def span_of(p: Pipeline, channel: str, start: str, end: str) -> Span:
    """Intervals of a channel, whole ones. Raises Problem 404, 409, 422."""
    index = channel_of(p, channel)
    low, high, step = _instant(start), _instant(end), step_ms_of(p, index)
    if low % step or high % step or high <= low:
        raise Problem(
            422, "span", "Not whole intervals", f"start and end take multiples of {step // 1000} s, end after start."
        )
    return Span(index, low, high)


def tried(p: Pipeline, spans: Sequence[Span], action: str, values: Sequence[Any] | None) -> list[Trial]:
    """What the action would do to each span. Raises Problem 422 for an unknown action or a value that is no number."""
    if action not in ACTIONS:
        raise Problem(422, "action", "No such action", f"{action!r}; there are {', '.join(ACTIONS)}.")
    return [_try(p, span, action, values) for span in spans]


def _try(p: Pipeline, span: Span, action: str, given: Sequence[Any] | None) -> Trial:
    values = values_of(p, span.channel, span.start_ms, span.end_ms)
    nothing = np.empty(0, np.int64), np.empty(0, np.int32)
    table = p.registry.table
    traits = int(table.profile[span.channel])
    exact = None if given is None else _exact(given, unit_of_channel(p, span.channel))
    try:
        if int(table.profiles.kind[traits]) == Kind.gauge:
            raise CannotPropose("a gauge has no values that add up; leave it")
        _check_may(p, span)
        zone = table.profiles.zones[int(table.profiles.zone[traits])]
        around = Surroundings(zone, lambda at: _value_at(p, span.channel, at, values.step_ms))
        return Trial(span, values, *propose(action, values, around, exact))
    except CannotPropose as error:
        return Trial(span, values, *nothing, str(error))


def _check_may(p: Pipeline, span: Span) -> None:
    if span.end_ms > p.clock():
        raise CannotPropose("these intervals are not over yet")
    for day in range(utc_day(span.start_ms), utc_day(span.end_ms - 1) + 1):
        if p.store.note(f"sealed/{day}"):
            raise CannotPropose(f"{day_text(day)} is older than retention.readings and cannot be built again")


def previewed(p: Pipeline, trials: Sequence[Trial], action: str) -> dict[str, Any]:
    """What a commit would change and by how much; nothing is written. `fingerprint` lets a commit ask for just this."""
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for trial in trials:
        table = p.registry.table
        utility = int(table.profiles.utility[int(table.profile[trial.span.channel])])
        total = totals[["electricity", "gas", "water"][utility], unit_of_channel(p, trial.span.channel).name]
        before, after = sums_of(trial)
        if trial.refused is None:
            total[0], total[1], total[2] = total[0] + before, total[1] + after, total[2] + _changed(trial)
    good = [trial for trial in trials if trial.refused is None]
    refused = [trial for trial in trials if trial.refused is not None]
    return {
        "action": action,
        "count": len(good),
        "intervals": sum(len(trial.quantity) for trial in good),
        "totals": [total_shape(utility, unit, *sums) for (utility, unit), sums in sorted(totals.items())],
        "refused": [span_shape(p, trial.span) | {"reason": trial.refused} for trial in refused[:_SHOWN]],
        "refused_count": len(refused),
        "items": [trial_shape(p, trial) for trial in good[:_SHOWN]],
        "fingerprint": _fingerprint(action, good),
    }


def commit(
    p: Pipeline, trials: Sequence[Trial], action: str, author: str, reason: str, expected: str | None
) -> dict[str, Any]:
    """Records the decision and resolves its exceptions; what was refused stays as it is.

    Raises Problem 409 where the values are not those of the preview any more, 422 where nothing can be done, 507.
    """
    good = [trial for trial in trials if trial.refused is None]
    refused = [trial for trial in trials if trial.refused is not None]
    if expected is not None and expected != _fingerprint(action, good):
        raise Problem(409, "changed", "The values have changed", "They are not those of the preview; look again.")
    if not good:
        raise Problem(422, "action", f"{action.capitalize()} is not possible here", refused[0].refused or "")
    try:
        edits = [_edit(trial, action) for trial in good if len(trial.quantity)]
    except EditError as error:
        raise Problem(422, "edit", "Not an edit", str(error)) from None
    words = {"action": action, "author": author, "reason": reason, "at_ms": p.clock()}
    chosen = [trial.span.number for trial in good if trial.span.number is not None]
    change = p.desk.exceptions.decide(chosen, edits, **words) if chosen else p.desk.edits.commit(edits, **words)
    p.doubt_edited_days()
    days = {
        day for t in good if len(t.quantity) for day in range(utc_day(t.span.start_ms), utc_day(t.span.end_ms - 1) + 1)
    }
    return {
        "change": change,
        "resolved": len(chosen),
        "edits": len(edits),
        "days": [day_text(day) for day in sorted(days)],
        "refused": [span_shape(p, trial.span) | {"reason": trial.refused} for trial in refused[:_SHOWN]],
        "refused_count": len(refused),
    }


def undo(p: Pipeline, change: int, author: str, reason: str) -> dict[str, Any]:
    """Takes a change back, reopens what it resolved, and builds its days again. Raises Problem 404, 409, 422, 507."""
    spans = p.desk.exceptions.undo(change, author=author, reason=reason, at_ms=p.clock())
    p.doubt_edited_days()
    days = {day for _, start, end in spans for day in range(utc_day(start), utc_day(end - 1) + 1)}
    return {"undone": change, "edits": len(spans), "days": [day_text(day) for day in sorted(days)]}


# -- edits ---------------------------------------------------------------------------------------------------------------


def changes(p: Pipeline, before: int | None, limit: int, channel: str | None, author: str | None) -> dict[str, Any]:
    """The JSON of /v1/edits: the newest first."""
    index = None if channel is None else channel_of(p, channel)
    found = p.desk.edits.changes(before=before, limit=limit, channel=index, author=author)
    return {
        "changes": [change_shape(p, one) for one in found],
        "next": found[-1].number if len(found) == limit else None,
    }


def change(p: Pipeline, number: int) -> dict[str, Any]:
    """One change and its spans. Raises Problem 404."""
    found = p.desk.edits.change(number)
    if found is None:
        raise Problem(
            404, "no-change", "No such change", f"There is no change {number}; /v1/edits lists what there is."
        )
    spans = p.desk.edits.spans(found.undoes or number)[:AT_ONCE]
    return change_shape(p, found) | {"spans": [span_shape(p, Span(*span)) for span in spans]}


# -- helpers --------------------------------------------------------------------------------------------------------------


def channel_of(p: Pipeline, id: str) -> int:
    """The dense index. Raises Problem 404."""
    index = p.registry.table.lookup_one(id)
    if index == NOT_FOUND:
        raise Problem(404, "no-channel", "No such channel", f"{id[:200]!r} is not registered.")
    return index


def _changed(trial: Trial) -> int:
    """The sum of what every single interval changes by."""
    if not len(trial.quantity):
        return 0
    return int(np.abs(trial.quantity - np.where(trial.values.quality == MISSING, 0, trial.values.effective)).sum())


def _edit(trial: Trial, action: str) -> Edit:
    """An accepted estimate yields to a measured value that comes later, but not to one that it was preferred to."""
    mode = None
    if action == "accept estimate" and (trial.values.raw_quality != MISSING).any():
        mode = Mode.ALWAYS
    span, step = trial.span, trial.values.step_ms
    return Edit(span.channel, span.start_ms, step, trial.quantity, trial.quality, mode)


def _fingerprint(action: str, trials: Sequence[Trial]) -> str:
    digest = hashlib.blake2b(action.encode(), digest_size=12)
    for trial in trials:
        where = (trial.span.channel, trial.span.start_ms, trial.span.end_ms, trial.span.number or 0)
        digest.update(np.array(where, np.int64).tobytes())
        for column in (trial.quantity, trial.quality, trial.values.effective, trial.values.quality):
            digest.update(column.tobytes())
    return digest.hexdigest()


def _value_at(p: Pipeline, channel: int, at_ms: int, step_ms: int) -> int | None:
    found = values_of(p, channel, at_ms, at_ms + step_ms)
    return None if found.quality[0] == MISSING else int(found.effective[0])


def _exact(given: Sequence[Any], unit: Unit) -> np.ndarray:
    try:
        return np.array([to_thousandths(Decimal(str(value)), unit) for value in given], np.int64)
    except (InvalidOperation, OutOfRange) as error:
        raise Problem(422, "values", "Not quantities", f"values takes numbers in {unit.name}: {error}") from None


def _instant(text: str) -> int:
    try:
        return instant_ms(text)
    except ValueError as error:
        raise Problem(422, "time", "A time that cannot be read", str(error)) from None
