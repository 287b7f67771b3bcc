"""What estimators work on: the gaps of load profiles, and what is known around them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from meterpulse.model.quality import Quality, code_of
from meterpulse.vee import MISSING, Context, Profile, Spans
from meterpulse.vee.slots import Slots, slots_of

NO_DAY = -(2**31)
# Qualities of a measurement. Estimates, edits, forecasts and doubtful values are no evidence for another value.
_MEASURED = (Quality.VALID, Quality.RAW, Quality.VALIDATED, Quality.VERIFIED, Quality.REVENUE)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Values for the same channels and columns as a load profile."""

    quantity: np.ndarray  # int64[n, m]
    quality: np.ndarray  # int32[n, m], MISSING where there is no value

    def take(self, rows: np.ndarray) -> Values:
        """The rows of an index array."""
        return Values(self.quantity[rows], self.quality[rows])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Support:
    """What an estimator may use besides the channel's own values. None is "not known": who needs it, passes."""

    holidays: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # days since 1970-01-01
    check: Values | None = None  # of a check or alternate meter at the same usage point
    last_year: Values | None = None  # of the same channel 364 days before, so on the same day of the week
    class_profile: np.ndarray | None = None  # int64[m], use of the channel's class in each column; UNKNOWN
    temperature: np.ndarray | None = None  # int64[d], mean of each local day of the profile in thousandths; UNKNOWN


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Runs of columns that have no value, k of them, each in full: also what of it is not judged."""

    row: np.ndarray  # int64[k]
    first: np.ndarray  # int64[k]
    after: np.ndarray  # int64[k]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def length(self) -> np.ndarray:
        """int64[k], in columns."""
        return self.after - self.first

    @property
    def offset(self) -> np.ndarray:
        """int64[k + 1]: where each gap begins when their columns are laid end to end."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.length)])

    def cells(self) -> tuple[np.ndarray, np.ndarray]:
        """(row int64[t], column int64[t]) of the columns of all gaps, laid end to end."""
        offset = self.offset
        owner = np.repeat(np.arange(len(self)), self.length)
        return self.row[owner], np.arange(offset[-1]) - offset[owner] + self.first[owner]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Load profiles with gaps, and what may be used to fill them."""

    profile: Profile
    context: Context
    support: Support
    slots: Slots
    sound: np.ndarray  # bool[n, m]: measured, and not while supply was off
    reference: np.ndarray  # bool[n, d]: a whole day of sound values and no holiday
    day_type: np.ndarray  # uint8[d]

    @classmethod
    def of(cls, profile: Profile, context: Context, support: Support) -> Known:
        """Of profiles whose missing values are missing: what was estimated before must not be among them as a value."""
        slots = slots_of(profile)
        sound = sound_of(profile.quality) & ~covered(context.outages, profile) & ~covered(context.inactive, profile)
        reference = np.zeros((len(profile), len(slots.day)), bool)
        if len(slots.day):
            begins = np.searchsorted(slots.day_of, np.arange(len(slots.day)))
            reference = (
                np.logical_and.reduceat(sound, begins, axis=1)
                & slots.whole
                & (np.diff(begins, append=sound.shape[1]) > 0)
            )
            reference &= ~np.isin(slots.day, support.holidays)
        return cls(profile, context, support, slots, sound, reference, slots.types(support.holidays))


def sound_of(quality: np.ndarray) -> np.ndarray:
    """bool, of the shape of `quality`: which values were measured and are believed."""
    return np.isin(code_of(quality), _MEASURED) & (quality != MISSING)


def covered(spans: Spans | None, profile: Profile) -> np.ndarray:
    """bool[n, m]: the columns that lie in a span."""
    out = np.zeros(profile.quantity.shape, bool)
    if spans is not None:
        for row, first, after in zip(spans.row, spans.first, spans.after, strict=True):
            out[row, max(first, 0) : max(after, 0)] = True
    return out


def gaps_of(missing: np.ndarray, wanted: np.ndarray) -> Gaps:
    """The runs of `missing` (bool[n, m]) that hold a column which is `wanted` (bool[n, m])."""
    steps = np.diff(np.pad(missing, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(steps == 1)
    after = np.nonzero(steps == -1)[1]
    before = np.zeros((len(wanted), wanted.shape[1] + 1), np.int64)
    np.cumsum(missing & wanted, axis=1, out=before[:, 1:])
    holds = before[row, after] > before[row, first]
    return Gaps(row[holds], first[holds], after[holds])
