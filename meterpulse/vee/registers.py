"""What was used between the reads of cumulative registers: intervals [previous read, read), whatever the register did.

It passes its last number and goes on (rollover), shows a little less for a while (dip), is exchanged, or begins anew
without a word (reset). V16 names these, and its decision is the one that counts here:

- rollover: the range of its digits is added;
- dip: the read is held, the next one is compared with the index before the dip;
- exchange, which an event tells: the old register's use up to the event, the new one's from it, where its last and
  first index are known;
- reset: how much was used is not known, and nothing is told of the interval.

Quantity is index * multiplier of both ends, each rounded down to a thousandth, and subtracted: so intervals add up to
the difference of any two reads, and an interval is the same whichever others are computed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from meterpulse.model.quality import ESTIMATES, Quality, code_of
from meterpulse.model.quantity import QUANTITY_MAX
from meterpulse.model.window import HOUR_MS
from meterpulse.vee import UNKNOWN, Decision, Profile, RegisterSpans, Traits
from meterpulse.vee.amounts import floor_times
from meterpulse.vee.drop import NO_ROLLOVER, decision_of, modulus_of
from meterpulse.vee.runs import compiled
from meterpulse.vee.v16_drop import DropSettings

_NONE, _HOLD, _ROLLOVER, _EXCHANGE = (
    int(d) for d in (Decision.NONE, Decision.HOLD, Decision.ROLLOVER, Decision.EXCHANGE)
)
_LAST, _FIRST, _READ = range(3)  # what an index is: the last of an old register, the first of a new one, a read


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """Reads of registers with the same traits, by channel and time; one for each channel and instant."""

    channel: np.ndarray  # uint32[k]
    at_ms: np.ndarray  # int64[k]
    index: np.ndarray  # int64[k], thousandths of the base unit as shown, without the multiplier
    quality: np.ndarray  # int32[k], packed


@dataclass(frozen=True, slots=True, eq=False)
class Exchanges:
    """When registers were exchanged, in any order. A read at the same instant is the new register's."""

    channel: np.ndarray  # uint32[e]
    at_ms: np.ndarray  # int64[e]
    last: np.ndarray  # int64[e], index of the old register, as shown; UNKNOWN
    first: np.ndarray  # int64[e], index of the new register, as shown; UNKNOWN

    @classmethod
    def none(cls) -> Exchanges:
        """No exchange."""
        return cls(np.zeros(0, np.uint32), *(np.zeros(0, np.int64) for _ in range(3)))


@dataclass(frozen=True, slots=True, eq=False)
class Consumption:
    """What is known to have been used, by channel and time. Times in none of the intervals are unknown."""

    channel: np.ndarray  # uint32[k]
    start_ms: np.ndarray  # int64[k]
    end_ms: np.ndarray  # int64[k]
    quantity: np.ndarray  # int64[k], thousandths of the base unit, multiplier included
    quality: np.ndarray  # int32[k]: derived, or what an estimated or questionable end makes of it
    decision: np.ndarray  # uint8[k], Decision: NONE, ROLLOVER, or EXCHANGE up to or from one

    def __len__(self) -> int:
        return len(self.channel)


def consumption(
    reads: Reads,
    traits: Traits,
    *,
    exchanges: Exchanges | None = None,
    rating: np.ndarray | None = None,
    settings: DropSettings | None = None,
) -> Consumption:
    """Intervals between reads. rating int64[k], thousandths that an hour can take (UNKNOWN): what makes a rollover
    plausible besides its bands. Steps that add up to more than any reading may be are not told.
    """
    settings = settings or DropSettings()
    steps = _ordered(reads, exchanges or Exchanges.none())
    modulus = modulus_of(traits.unit, traits.digits)
    upper, lower = NO_ROLLOVER, 0
    if modulus != NO_ROLLOVER:
        upper = int(modulus * Fraction(settings.rollover_from))
        lower = -int(-modulus * Fraction(settings.rollover_to) // 1)
    per_hour = np.full(len(reads.index), NO_ROLLOVER, np.int64)
    if rating is not None:
        known = rating != UNKNOWN
        per_hour[known] = floor_times(rating[known], Fraction(settings.margin) / traits.multiplier) + 1
    dip = Fraction(settings.dip)
    bands = modulus, upper, lower, dip.numerator, dip.denominator
    before, after, decision = _follow(
        steps.channel, steps.at_ms, steps.index, steps.what, steps.read, per_hour, HOUR_MS, bands
    )
    turns = np.where(decision == Decision.ROLLOVER, modulus, 0)
    quantity = _times(steps.index[after] + turns, traits.multiplier) - _times(steps.index[before], traits.multiplier)
    told = (quantity >= 0) & (quantity <= QUANTITY_MAX)
    before, after = before[told], after[told]
    return Consumption(
        steps.channel[after],
        steps.at_ms[before],
        steps.at_ms[after],
        quantity[told].astype(np.int64),
        _quality(steps.quality[before], steps.quality[after]),
        decision[told],
    )


def spans_of(used: Consumption, row: np.ndarray, profile: Profile, traits: Traits) -> RegisterSpans:
    """Consumption as spans of a load profile's columns: what its intervals must add up to.

    row int64[k]: the interval channel's row that the register also measures, -1 for none. A read inside of an interval
    cannot be compared with anything, so consumption is added up until both ends lie on edges of columns. `traits` are
    the register's; it is taken to show whole units.
    """
    offset = used.start_ms - profile.start_ms, used.end_ms - profile.start_ms
    table = np.empty((len(used), 4), np.int64)
    count = _join(used.channel, row, *offset, used.quantity, profile.step_ms, table)
    table = table[:count]
    table = table[np.argsort(table[:, 0], kind="stable")]
    resolution = max(int(traits.unit.scale * traits.multiplier), 1)
    return RegisterSpans(
        table[:, 0].astype(np.uint32),
        np.clip(table[:, 1], -(2**31), 2**31 - 1).astype(np.int32),
        np.clip(table[:, 2], -(2**31), 2**31 - 1).astype(np.int32),
        table[:, 3].copy(),
        np.full(count, resolution, np.int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Reads and exchanges as one sequence of indices; an exchange is two of them, the last and the first."""

    channel: np.ndarray
    at_ms: np.ndarray
    index: np.ndarray
    what: np.ndarray
    read: np.ndarray  # which read, -1 for none
    quality: np.ndarray


def _ordered(reads: Reads, exchanges: Exchanges) -> _Steps:
    n, e = len(reads.channel), len(exchanges.channel)
    channel = np.concatenate([reads.channel, exchanges.channel, exchanges.channel]).astype(np.uint32)
    at = np.concatenate([reads.at_ms, exchanges.at_ms, exchanges.at_ms]).astype(np.int64)
    index = np.concatenate([reads.index, exchanges.last, exchanges.first]).astype(np.int64)
    what = np.repeat(np.array([_READ, _LAST, _FIRST], np.uint8), (n, e, e))
    read = np.concatenate([np.arange(n), np.full(2 * e, -1)])
    quality = np.concatenate([reads.quality, np.full(2 * e, int(Quality.DERIVED))]).astype(np.int32)
    order = np.lexsort((what, at, channel))
    return _Steps(*(column[order] for column in (channel, at, index, what, read, quality)))


@compiled
def _follow(  # type: ignore[no-untyped-def]
    channel, at_ms, index, what, read, per_hour, hour_ms, bands
):
    """(before int64[j], after int64[j], decision uint8[j]): pairs of indices between which use is known."""
    modulus, upper, lower, dip_num, dip_den = bands
    n = len(channel)
    before, after, decision = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.uint8)
    k, last = 0, -1
    for i in range(n):
        if last >= 0 and channel[last] != channel[i]:
            last = -1
        if index[i] == UNKNOWN:  # of an exchange: what was before it cannot be followed
            last = -1
            continue
        if last < 0 or what[i] == _FIRST:
            last = i if what[i] != _LAST else -1
            continue
        shown = index[last]
        hours = (at_ms[i] - at_ms[last]) // hour_ms + 1
        most = modulus
        if read[i] >= 0 and per_hour[read[i]] < modulus // hours:
            most = per_hour[read[i]] * hours
        dip = shown // dip_den * dip_num + -(-(shown % dip_den) * dip_num // dip_den)
        found = decision_of(shown, index[i], modulus, most, False, upper, lower, dip)
        if found == _HOLD and what[i] == _READ:
            continue
        if found == _NONE or found == _ROLLOVER:
            if at_ms[i] > at_ms[last]:
                before[k], after[k] = last, i
                decision[k] = found
                if found == _NONE and (what[i] == _LAST or what[last] == _FIRST):
                    decision[k] = _EXCHANGE
                k += 1
        last = i if what[i] != _LAST else -1
    return before[:k], after[:k], decision[:k]


def _times(index: np.ndarray, multiplier: Fraction) -> np.ndarray:
    """floor(index * multiplier); in Python's integers where 64 bits do not hold it."""
    top, bottom = multiplier.numerator, multiplier.denominator
    largest = int(np.abs(index).max(initial=0))
    if largest // bottom * top + top < 2**62 and bottom * top < 2**62:
        return index // bottom * top + index % bottom * top // bottom
    return index.astype(object) * top // bottom


def _quality(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Derived, unless an end is questionable, or else an estimate: then as that end is."""
    out = np.full(len(before), int(Quality.DERIVED), np.int32)
    for end in (before, after):
        out = np.where(np.isin(code_of(end), sorted(ESTIMATES)), end, out)
    for end in (before, after):
        out = np.where(code_of(end) == Quality.QUESTIONABLE, end, out)
    return out.astype(np.int32)


@compiled
def _join(channel, row, start, end, quantity, step, table):  # type: ignore[no-untyped-def]
    """Fills table (row, first, after, quantity) and returns how many spans there are."""
    k, opened, total = 0, -1, 0
    for i in range(len(channel)):
        follows = opened >= 0 and channel[opened] == channel[i] and end[i - 1] == start[i]
        if not follows:
            opened, total = -1, 0
            if row[i] < 0 or start[i] % step != 0:
                continue
            opened = i
        total += quantity[i]
        if end[i] % step == 0:
            table[k, 0], table[k, 1], table[k, 2], table[k, 3] = (
                row[i], start[opened] // step, end[i] // step, total,
            )  # fmt: skip
            k += 1
            opened, total = -1, 0
    return k
