"""Whether a new value replaces the one that stands: by quality, then by how much changes; what is billed is locked."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from meterpulse.model.quality import ESTIMATES, Quality
from meterpulse.vee import MISSING, Decision
from meterpulse.vee.amounts import floor_times

# revenue > verified > validated (by a rule, a person, or whoever sent it) > raw > estimated
_RANKS: dict[int, int] = {
    Quality.REVENUE: 5,
    Quality.VERIFIED: 4,
    Quality.VALID: 3,
    Quality.VALIDATED: 3,
    Quality.EDITED: 3,
    Quality.DERIVED: 3,
}
_RANK = np.array([_RANKS.get(code, 1 if code in ESTIMATES else 2) for code in range(256)], np.int8)


def rank_of(quality: np.ndarray) -> np.ndarray:
    """int8, of packed qualities: higher is better, 0 where there is no value."""
    return np.where(quality == MISSING, np.int8(0), _RANK[quality & 0xFF])


def decide(
    old: np.ndarray,
    old_quality: np.ndarray,
    new: np.ndarray,
    new_quality: np.ndarray,
    billed: np.ndarray,
    absolute: int,
    relative: Fraction,
) -> np.ndarray:
    """uint8 Decision for every pair of values (any shape; quantities int64, qualities packed or MISSING, billed bool).

    NONE where nothing changes; REPLACE where there was nothing, where the new one is better, or where it is as good and
    changes by at most `absolute` thousandths or `relative` of the old; HOLD where it is as good and changes by more;
    KEEP where it is worse or not there; ADJUST where the old one is billed and another value would replace it.
    """
    before, after = rank_of(old_quality), rank_of(new_quality)
    change = np.abs(new - old)
    small = (change <= absolute) | (change <= floor_times(np.abs(old), relative))
    out = np.where(after > before, Decision.REPLACE, np.where(small, Decision.REPLACE, Decision.HOLD))
    out = np.where((after < before), Decision.KEEP, out)
    out = np.where((before > 0) & (after > 0) & (new == old) & (after <= before), Decision.NONE, out)
    out = np.where((before == 0) & (after == 0), Decision.NONE, out)
    locked = billed & (before > 0) & (new != old) & ((out == Decision.REPLACE) | (out == Decision.HOLD))
    return np.where(locked, Decision.ADJUST, out).astype(np.uint8)
