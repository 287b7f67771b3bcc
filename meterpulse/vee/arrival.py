"""What can be said of a reading when it arrives: the rules that need no history, run by the same code as in the batch layer.

A reading in which a rule fails is taken and counted like any other, and is marked as questionable: with that quality it goes to
the log, the lake and the record. Only channels are judged whose group asks for it (`arrival = true` in `vee.groups`).
"""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial
from typing import Any

import numpy as np

from meterpulse.model.channel import ChannelTable
from meterpulse.model.quality import Quality, code_of
from meterpulse.model.reading import Readings
from meterpulse.model.window import SECOND_MS, local_day
from meterpulse.vee import UNKNOWN, Context, Findings, Profile, Status, Traits
from meterpulse.vee.catalogue import RuleSet
from meterpulse.vee.groups import VeeSettings
from meterpulse.vee.runner import judge


class Arrival:
    """Judges batches of readings; any thread may."""

    def __init__(self, settings: VeeSettings):
        self._settings = settings
        self.is_on = settings.judges_arrivals
        self._counting = threading.Lock()
        self._judged, self._failed = 0, Counter[str]()

    def graded(self, readings: Readings, table: ChannelTable, received_ms: int, *, is_live: bool) -> Readings:
        """The same readings, those that a rule fails marked as questionable. Of history (not `is_live`) the time of arrival
        says nothing.
        """
        if not self.is_on or not len(readings):
            return readings
        doubtful: list[np.ndarray] = []
        number_of = np.asarray(table.profile)[readings.channel]
        for number in np.unique(number_of).tolist():
            traits = Traits.of(table.profiles, number)
            day = local_day(traits.zone, received_ms)
            if not self._settings.may_judge_arrivals(traits, day):
                continue
            rows = np.flatnonzero(number_of == number)
            ids = partial(table.ids, readings.channel[rows])
            for which, rule_set in self._settings.for_arrival(traits, len(rows), ids, day):
                own = rows[which]
                doubtful.append(
                    own[self._doubtful(readings.take(own), traits, rule_set, received_ms if is_live else None)]
                )
        marked = np.concatenate([np.empty(0, np.int64), *doubtful])
        if not len(marked):
            return readings
        quality = readings.full("quality").copy()
        quality[marked] = quality[marked] & ~0xFF | int(Quality.QUESTIONABLE)
        return Readings(
            readings.channel, readings.start, readings.seconds, readings.quantity, readings.revision, quality
        )

    def summary(self) -> dict[str, Any]:
        """For the status: readings judged since the start, and in how many each rule failed."""
        with self._counting:
            return {"judged": self._judged, "questionable": dict(sorted(self._failed.items()))}

    def _doubtful(self, own: Readings, traits: Traits, rule_set: RuleSet, received_ms: int | None) -> np.ndarray:
        """bool[n]. Each reading is a row of a load profile with one interval."""
        clock_ms = None
        if received_ms is not None:
            ahead = own.full("start") + own.full("seconds").astype(np.int64) * SECOND_MS - received_ms
            # A reading that comes after its end may be late or have a slow clock, nobody can tell; one before it has a fast one.
            clock_ms = np.where(ahead > 0, ahead, UNKNOWN)[:, None]
        profile = Profile(
            traits, own.channel, 0, traits.interval_seconds * SECOND_MS, own.quantity[:, None],
            own.full("quality").astype(np.int32)[:, None],
        )  # fmt: skip
        verdict = judge(profile, Context(seconds=own.full("seconds")[:, None], clock_ms=clock_ms), rule_set)
        self._count(len(own), verdict.findings)
        return np.asarray(code_of(verdict.quality[:, 0]) == Quality.QUESTIONABLE)

    def _count(self, judged: int, findings: Findings) -> None:
        numbers = findings.rule[findings.status == Status.FAIL].tolist()
        with self._counting:
            self._judged += judged
            self._failed.update(f"V{number:02d}" for number in numbers)
