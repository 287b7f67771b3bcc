"""What failed in a load profile, as the work list takes it: with its times, and with what is at stake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from meterpulse.model.channel import NO_AREA, ChannelTable, Utility
from meterpulse.model.quantity import unit_of
from meterpulse.vee import MISSING, Findings, Profile, Status
from meterpulse.worklist import Found


@dataclass(frozen=True)
class Worth:
    """What a kWh and a m³ are worth, so that exceptions of different utilities can be put in one order. No bill."""

    kwh: float
    gas_m3: float
    water_m3: float

    def of(self, utility: Utility, dimension: str, quantity: np.ndarray) -> np.ndarray:
        """int64[k]: thousandths, for quantities in thousandths of the base unit; 0 for what has no price (volts, kvarh)."""
        each = {"energy": self.kwh, "volume": self.gas_m3 if utility == Utility.gas else self.water_m3}
        scale = float(unit_of("m3" if dimension == "volume" else "kWh").scale)
        return np.rint(quantity * (each.get(dimension, 0.0) * 1000 / scale)).astype(np.int64)


def found_of(
    profile: Profile,
    findings: Findings,
    effective: np.ndarray,
    table: ChannelTable,
    areas: Sequence[str],
    worth: Worth,
) -> Found:
    """The findings that fail. `effective` int64[n, m]: the values that stand after estimation, 0
    where there is none; `areas`: names by index."""
    failed = findings.take(findings.status == Status.FAIL)
    first, after = failed.first.astype(np.int64), failed.after.astype(np.int64)
    stake = _at_stake(profile, failed, effective)
    channel = profile.channel[failed.row]
    traits = profile.traits
    leaf = np.asarray(table.area)[channel]
    return Found(
        channel,
        [f"V{number:02d}" for number in failed.rule.tolist()],
        profile.start_ms + first * profile.step_ms,
        profile.start_ms + after * profile.step_ms,
        np.full(len(failed), profile.step_ms, np.int64),
        failed.measured,
        failed.limit,
        stake,
        worth.of(traits.utility, traits.unit.dimension, stake),
        [traits.utility.name] * len(failed),
        [None if at == NO_AREA else areas[at] for at in leaf.tolist()],
    )


def together(parts: Sequence[Found]) -> Found:
    """All of them, in order."""
    texts = ("rule", "utility", "area")
    columns: dict[str, Any] = {}
    for name in Found.__dataclass_fields__:
        own = [getattr(part, name) for part in parts]
        columns[name] = [text for part in own for text in part] if name in texts else np.concatenate([_NONE, *own])
    return Found(**columns)


_NONE = np.empty(0, np.int64)


def _at_stake(profile: Profile, failed: Findings, effective: np.ndarray) -> np.ndarray:
    """int64[k]: how much the values that stand differ from the measured ones; where they do not, the measured themselves."""
    measured = np.where(profile.quality == MISSING, 0, profile.quantity)
    moved = _sums(np.abs(effective - measured), failed)
    return np.where(moved > 0, moved, _sums(np.abs(measured), failed))


def _sums(values: np.ndarray, failed: Findings) -> np.ndarray:
    """int64[k]: the sum of each finding's columns in its row; columns outside of the matrix count nothing."""
    until = np.zeros((values.shape[0], values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=until[:, 1:])
    first, after = (np.clip(c, 0, values.shape[1]) for c in (failed.first, failed.after))
    return until[failed.row, after] - until[failed.row, first]
