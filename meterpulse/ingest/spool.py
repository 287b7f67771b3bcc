"""Readings of any number of files, put in the order of their time: a file per day in a scratch folder.

Files come meter by meter, and a replay wants moment by moment. Only the day that is read is in memory.

>>> spool = Spool(folder)
>>> spool.add(readings, due_ms)
>>> spool.day(spool.first)["quantity"].tolist()
[125, 250]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from meterpulse.model.reading import COLUMNS, Readings

DAY_MS = 86_400_000
ROW = np.dtype([(name, kind) for name, kind in COLUMNS])


class Spool:
    """Rows by the UTC day in which they are due. `first` and `last` are days since 1970; `rows` is 0 where there are none."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.first, self.last, self.rows = 2**31, -(2**31), 0

    def add(self, readings: Readings, due_ms: np.ndarray) -> None:
        """Adds readings; `due_ms` int64[n] is when each is known: the end of an interval."""
        if not len(readings):
            return
        rows = np.empty(len(readings), ROW)
        for name in ROW.names or ():
            rows[name] = readings.full(name)
        days = (due_ms - 1) // DAY_MS  # what is due at midnight belongs to the day that ends
        order = np.argsort(days, kind="stable")
        rows, days = rows[order], days[order]
        begins = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
        for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(days)], strict=True):
            with self._path(int(days[begin])).open("ab") as file:
                file.write(rows[begin:end].tobytes())
        self.first, self.last = min(self.first, int(days[0])), max(self.last, int(days[-1]))
        self.rows += len(rows)

    def day(self, day: int) -> np.ndarray:
        """ROW[n] by start; rows of one start in the order in which they were added."""
        path = self._path(day)
        rows = np.fromfile(path, ROW) if path.exists() else np.empty(0, ROW)
        return rows[np.argsort(rows["start"], kind="stable")]

    def _path(self, day: int) -> Path:
        return self._folder / f"{day}.rows"
