"""V20: a user's own rule, a formula over the statistics of a day."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from meterpulse.model.channel import Kind
from meterpulse.vee import MISSING, Context, Findings, Outcome, Profile, Rule, Settings, Spans
from meterpulse.vee.calendar import Days, days_of
from meterpulse.vee.formula import Formula
from meterpulse.vee.runs import compiled

_parsed = lru_cache(maxsize=64)(Formula.parse)


def _checked(text: str) -> str:
    _parsed(text)
    return text


class DynamicSettings(Settings):
    """`formula` is true of a day that is to be told, such as `max > 10 * mean and zero_count < 5`. Amounts are in the
    channel's unit. Without a formula the rule judges nothing.
    """

    formula: Annotated[str, AfterValidator(_checked)] | None = None


class Dynamic(Rule):
    """Evidence: both sides of the formula in thousandths of the channel's unit, rounded; where it is more than one
    comparison, 1 and 0.
    """

    number = 20
    settings = DynamicSettings

    def check(self, profile: Profile, context: Context, settings: DynamicSettings) -> Outcome:
        """Whole local days with any value. `outage_count` needs to know of outages: a formula with it judges nothing else."""
        if settings.formula is None or profile.traits.kind is Kind.register:
            return Outcome.not_applicable(profile)
        formula = _parsed(settings.formula)
        if "outage_count" in formula.names and context.outages is None:
            return Outcome.not_applicable(profile)
        days = days_of(profile).wholes()
        n, d = len(profile), len(days.day)
        values = {name: np.full((n, d), np.nan) for name in formula.names}
        known = np.zeros((n, d), bool)
        for at, (low, high) in enumerate(zip(days.first, days.after, strict=True)):
            quantity = profile.quantity[:, low:high]
            missing = profile.quality[:, low:high] == MISSING
            known[:, at] = ~missing.all(axis=1)
            for name, value in _statistics(quantity, missing, formula.names, profile).items():
                values[name][:, at] = value
        if "outage_count" in values:
            assert context.outages is not None
            values["outage_count"] = _outages(context.outages, days, n)
        truth = formula.holds(values) if formula.names else np.broadcast_to(formula.holds({}), known.shape)
        row, day = np.nonzero(truth & known)
        sides = formula.sides(values) if formula.names else None
        measured, limit = (_evidence(side[row, day]) for side in sides) if sides else (1, 0)
        found = Findings.of(20, row, days.first[day], days.after[day], settings.status, measured, limit)
        return Outcome.where(known, found)


def _statistics(
    quantity: np.ndarray, missing: np.ndarray, names: frozenset[str], profile: Profile
) -> dict[str, np.ndarray]:
    """float64[n] by name, over the values of a day that are known; NaN of rows without any."""
    scale = float(profile.traits.unit.scale)
    count = (~missing).sum(axis=1)
    some = np.maximum(count, 1)
    out: dict[str, np.ndarray] = {}
    total = np.where(missing, 0, quantity).sum(axis=1)
    for name in names:
        if name == "count":
            out[name] = count.astype(float)
        elif name == "zero_count":
            out[name] = ((quantity == 0) & ~missing).sum(axis=1).astype(float)
        elif name == "sum":
            out[name] = total / scale
        elif name == "mean":
            out[name] = total / some / scale
        elif name in ("min", "max"):
            edge = np.iinfo(np.int64)
            filled = np.where(missing, edge.max if name == "min" else edge.min, quantity)
            out[name] = getattr(filled, name)(axis=1) / scale
        elif name == "median":
            out[name] = _median(quantity, missing, count) / scale
        elif name == "sd":
            off = np.where(missing, 0.0, quantity - (total / some)[:, None])
            out[name] = np.sqrt((off * off).sum(axis=1) / some) / scale
    return out


def _median(quantity: np.ndarray, missing: np.ndarray, count: np.ndarray) -> np.ndarray:
    out = np.empty(len(quantity))
    _medians(quantity, missing, out)
    return out


@compiled
def _medians(quantity, missing, out):  # type: ignore[no-untyped-def]
    """The mean of the two in the middle; of none, whatever."""
    known = np.empty(quantity.shape[1], np.int64)
    for r in range(len(quantity)):
        k = 0
        for c in range(quantity.shape[1]):
            known[k] = quantity[r, c]
            k += not missing[r, c]
        if k == 0:
            out[r] = 0.0
            continue
        high = np.partition(known[:k], k // 2)
        top = high[k // 2]
        low = top
        if k % 2 == 0:
            low = high[0]
            for i in range(1, k // 2):
                low = max(low, high[i])
        out[r] = (float(low) + float(top)) / 2


def _outages(outages: Spans, days: Days, n: int) -> np.ndarray:
    """float64[n, d]: how many confirmed outages touch each day."""
    out = np.zeros((n, len(days.day)))
    touches = (outages.first[:, None] < days.after) & (outages.after[:, None] > days.first)
    np.add.at(out, outages.row, touches)
    return out


def _evidence(side: np.ndarray) -> np.ndarray:
    """int64: thousandths, rounded half to even; what does not fit is cut to the ends."""
    return np.clip(np.nan_to_num(np.rint(side * 1000.0)), -9e18, 9e18).astype(np.int64)
