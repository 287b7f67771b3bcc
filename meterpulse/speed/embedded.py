"""The embedded engine: one thread applies the log to arrays; state is a function of the log and of the retirements noted in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from meterpulse.log import Entry
from meterpulse.model import cells as c
from meterpulse.model.aside import ENTRIES_MAX, IMPORTED, LATE, REVISED, Aside, Known
from meterpulse.model.channel import ChannelTable
from meterpulse.model.reading import Readings
from meterpulse.model.watermark import Watermark
from meterpulse.model.window import DAY_MS, WINDOW_MS, WINDOWS_A_DAY, floor_to
from meterpulse.speed import Counters, Mark, Retirement, Speed

LONG_AGO = -(1 << 61)
_ZERO = np.zeros(1, np.int64)


@dataclass
class Window:
    """One open 5-minute window: cells[1, channels, 6], area[5 minutes, groups, 4], and the readings off the 5-second grid."""

    start_ms: int
    cells: np.ndarray
    area: np.ndarray
    loose: list[Readings] = field(default_factory=list)
    changed: int = 0
    _effective: tuple[int, tuple[np.ndarray, ...]] = (0, ())

    @property
    def end_ms(self) -> int:
        """Exclusive."""
        return self.start_ms + WINDOW_MS

    def rows(self, low: int, high: int) -> np.ndarray:
        """int64[high - low, 1, 5] of these channels, readings off the grid included."""
        out = np.zeros((high - low, 1, c.ROW), np.int64)
        top = min(high, self.cells.shape[1])
        if low < top:
            c.rows_of(self.cells[:, low:top], out)
        if self.loose:
            channel, start, quantity = self.loose_effective()
            lo, hi = np.searchsorted(channel, (low, high))
            if lo < hi:
                newest = np.full((high - low, 1), LONG_AGO, np.int64)
                for at in np.unique(channel[lo:hi]):
                    if at < top:
                        slot = c.last_slot(int(self.cells[0, at, 0]), int(self.cells[0, at, 1]))
                        newest[at - low, 0] = self.start_ms + slot * c.SLOT_MS if slot >= 0 else LONG_AGO
                nobody = np.zeros(int(channel[hi - 1]) + 1, np.uint32)
                none = np.zeros((1, 1, 4), np.int64)
                c.add_loose(
                    out, newest, none, nobody, channel[lo:hi], low, start[lo:hi], quantity[lo:hi], self.start_ms
                )
        return out

    def row(self, channel: int) -> list[int] | None:
        """count, sum, min, max and last of one channel; None where it has no reading. A page asks this of every open window,
        so it is Python's integers and not numpy's. For a window without readings off the grid."""
        if channel >= self.cells.shape[1]:
            return None
        low, high, *values = self.cells[0, channel].tolist()
        return [low.bit_count() + high.bit_count(), *values] if low | high else None

    def minutes(self, group_of: np.ndarray) -> np.ndarray:
        """int64[groups, 5, 4] of all groups, readings off the grid included."""
        out = self.area.copy()
        if self.loose:
            channel, start, quantity = self.loose_effective()
            groups = int(group_of[channel].max()) + 1  # an area that is younger than the window
            if groups > out.shape[1]:
                out = np.concatenate(
                    [out, np.zeros((out.shape[0], groups - out.shape[1], c.AREA_ROW), np.int64)], axis=1
                )
            rows = np.zeros((int(channel[-1]) + 1, 1, c.ROW), np.int64)
            newest = np.zeros((len(rows), 1), np.int64)
            c.add_loose(rows, newest, out, group_of, channel, 0, start, quantity, self.start_ms)
        return np.ascontiguousarray(out.transpose(1, 0, 2))

    def loose_effective(self) -> tuple[np.ndarray, ...]:
        """(channel, start, quantity) of the readings off the grid that stand; kept until there are more. `loose` itself is
        the engine's alone to change: readers of other threads come by here."""
        parts = self.loose[:]
        known, found = self._effective
        if known != len(parts):
            r = Readings.concat(parts)
            found = c.effective(r.channel, r.full("start"), r.quantity, r.full("revision"))
            self._effective = len(parts), found
        return found


class Engine(Speed):
    """Applies log entries in order. `applied` is the offset of the next one; everything below it is in the views."""

    def __init__(
        self,
        table: Callable[[], ChannelTable],
        groups: Callable[[], np.ndarray],
        group_count: Callable[[], int],
        *,
        watermark_delay_ms: int,
        allowed_lateness_ms: int,
        idle_ms: int,
        max_open_bytes: int,
    ):
        self._table, self._groups, self._group_count = table, groups, group_count
        self._lateness_ms, self._idle_ms, self._max_open_bytes = allowed_lateness_ms, idle_ms, max_open_bytes
        self.watermark = Watermark(watermark_delay_ms)
        self.windows: dict[int, Window] = {}
        self.retiring: list[Retirement] = []
        self.marks: dict[int, Mark] = {}
        self.asides: dict[int, Aside] = {}  # by day: what was not applied here, and is batch's to bring in
        self.held: dict[int, int] = {}  # by day: a bit for every window that was answered from here
        self.counters = Counters()
        self.applied = 0
        self.retired_ms = LONG_AGO
        self.lock = threading.Lock()  # guards the dictionaries, not the arrays
        self.on_retire: Callable[[Retirement], None] = lambda retirement: None
        self._spare: list[np.ndarray] = []

    # -- applying the log ------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        """The next entry of the log."""
        if entry.offset != self.applied:
            raise AssertionError(f"entry {entry.offset} applied at {self.applied}")
        readings, live = entry.record.readings, entry.record.live
        if len(readings):
            if live:
                newest = int(readings.start.max())
                if newest >= self.retired_ms:  # a source that is late as a whole is not waited for
                    self.watermark.advance(entry.record.source, newest, entry.record.received_ms)
                self._apply_live(readings, entry.offset)
            else:
                self.counters.imported += len(readings)
                self._mark(readings, entry.offset, IMPORTED)
        self.counters.rows = entry.rows_before + len(readings)
        self.applied = entry.offset + 1

    def _apply_live(self, readings: Readings, offset: int) -> None:
        self._open(readings)
        if int(readings.start.min()) < self.retired_ms:
            late = readings.full("start") < self.retired_ms
            self.counters.late += int(late.sum())
            self._mark(readings.take(late), offset, LATE)
            readings = readings.take(~late)
        groups = self._groups()  # before the windows are sized: they hold every group that is named here
        while len(readings):
            window = self._window(floor_to(int(readings.start[len(readings.start) // 2]), WINDOW_MS), readings)
            outcome = np.empty(len(readings), np.uint8)
            _, duplicates, others = c.scatter(
                window.cells, window.area, groups, readings.channel, 0, readings.start, readings.quantity,
                readings.revision, window.start_ms, outcome,
            )  # fmt: skip
            window.changed += 1
            self.counters.duplicates += duplicates
            if not others:
                return
            revised = outcome == c.REVISION
            if revised.any():
                self.counters.revisions += int(revised.sum())
                self._mark(readings.take(revised), offset, REVISED)
            loose = outcome == c.LOOSE
            if loose.any():
                window.loose.append(readings.take(loose))
            elsewhere = outcome == c.ELSEWHERE
            readings = readings.take(elsewhere) if elsewhere.any() else Readings.empty()

    def _open(self, readings: Readings) -> None:
        """Opens the windows that these readings need. What has to be retired to make room is retired before any of them is
        applied, so that all of a window's readings in this entry are late, now and when the log is replayed."""
        low, high = floor_to(int(readings.start.min()), WINDOW_MS), floor_to(int(readings.start.max()), WINDOW_MS)
        for start_ms in (low,) if low == high else np.unique(readings.start // WINDOW_MS * WINDOW_MS).tolist():
            if start_ms in self.windows or start_ms < self.retired_ms:
                continue
            self._make_room()
            if start_ms >= self.retired_ms:
                window = Window(
                    start_ms, self._cells(self._table().count), np.zeros((5, self._group_count(), c.AREA_ROW), np.int64)
                )
                with self.lock:
                    self.windows[start_ms] = window

    def _window(self, start_ms: int, readings: Readings) -> Window:
        wanted = self._table().count
        large = int(readings.quantity.max()) > c.NARROW_LIMIT or int(readings.quantity.min()) < -c.NARROW_LIMIT
        window = self.windows[start_ms]
        if wanted > window.cells.shape[1]:
            grown = self._cells(wanted, window.cells.dtype)
            grown[:, : window.cells.shape[1]] = window.cells
            window.cells = grown
        if self._group_count() > window.area.shape[1]:
            grown = np.zeros((5, self._group_count(), c.AREA_ROW), np.int64)
            grown[:, : window.area.shape[1]] = window.area
            window.area = grown
        if large and window.cells.dtype == np.int32:
            window.cells = window.cells.astype(np.int64)
        return window

    def _cells(self, channels: int, dtype: type | np.dtype = np.int32) -> np.ndarray:
        # Room for a block of new channels; untouched pages of zeros cost nothing.
        return np.zeros((1, (channels + 8191) // 4096 * 4096, c.CELL), dtype)

    def _make_room(self) -> None:
        """Keeps the open windows within their memory: the oldest is retired early, what comes for it is late, not lost."""
        while self.windows and sum(w.cells.nbytes for w in self.windows.values()) >= self._max_open_bytes:
            self.retire(min(self.windows) + WINDOW_MS)

    def _mark(self, readings: Readings, offset: int, kind: int) -> None:
        start = readings.start
        room = ENTRIES_MAX - sum(aside.entries for aside in self.asides.values())
        if kind == IMPORTED:
            room -= ENTRIES_MAX // 2
        for day in np.unique(start // DAY_MS).tolist():
            here = start // DAY_MS == day
            own = start[here]
            low, end = floor_to(int(own.min()), WINDOW_MS), floor_to(int(own.max()), WINDOW_MS) + WINDOW_MS
            rows = len(readings) if len(start) == 1 else len(own)
            with self.lock:
                mark = self.marks.setdefault(day, Mark(offset + 1, end, 0, low))
                mark.after_offset, mark.rows = offset + 1, mark.rows + rows
                mark.window_start_ms, mark.window_end_ms = min(mark.window_start_ms, low), max(mark.window_end_ms, end)
                # An import of days that were never answered from here, which may be years, differs from nothing.
                if kind != IMPORTED or end > self.retired_ms or day in self.held:
                    own_rows = readings if len(start) == 1 else readings.take(here)
                    room -= self.asides.setdefault(day, Aside()).add(own_rows, kind, offset, room)

    def known(self, day: int) -> Known:
        """What was laid aside of a day so far."""
        with self.lock:
            return self.asides[day].known() if day in self.asides else Known.nothing()

    def doubt(self, day: int, after_offset: int = 0, window_end_ms: int | None = None) -> None:
        """Marks a day dirty though no reading came for it: what is stored of it cannot be trusted. Where its windows up to
        `window_end_ms` are not retired yet, the rebuild waits for them."""
        with self.lock:
            self.asides.setdefault(day, Aside()).is_doubted = True
        self.ask_for(day, after_offset, window_end_ms)

    def ask_for(self, day: int, after_offset: int = 0, window_end_ms: int | None = None) -> None:
        """As `doubt`, of a day that is rebuilt for another reason than that it could be wrong."""
        with self.lock:
            end = min((day + 1) * DAY_MS, self.retired_ms) if window_end_ms is None else window_end_ms
            mark = self.marks.setdefault(day, Mark(after_offset, end))
            mark.after_offset, mark.window_end_ms = max(mark.after_offset, after_offset), max(mark.window_end_ms, end)
            mark.window_start_ms = min(mark.window_start_ms, day * DAY_MS)

    # -- time ------------------------------------------------------------------------------------------------------------

    def advance(self, now_ms: int, unheard_ms: int) -> None:
        """Retires what the watermark has passed. `unheard_ms` is how long no reading at all has come: then nothing is waited
        for, and the windows that hold up a dirty day are retired so that batch can have them."""
        watermark = self.watermark.value(now_ms, self._idle_ms)
        if watermark is not None:
            boundary = floor_to(watermark - self._lateness_ms, WINDOW_MS)
            waits = min(
                [*self.windows, *(m.window_start_ms for m in self.marks.values() if m.window_end_ms > self.retired_ms)],
                default=boundary,
            )
            if boundary > self.retired_ms and waits < boundary:
                self.retire(boundary)
        waiting = max((m.window_end_ms for m in self.marks.values()), default=LONG_AGO)
        if (waiting > self.retired_ms and unheard_ms >= self._idle_ms) or (
            self.windows and unheard_ms >= self._lateness_ms
        ):
            self.retire(max([waiting, self.retired_ms, *(w.end_ms for w in self.windows.values())]))

    def retire(self, boundary_ms: int) -> None:
        """All windows that start before the boundary leave; from this offset on their readings are late."""
        with self.lock:
            leaving = [self.windows.pop(s) for s in sorted(self.windows) if s < boundary_ms]
            retirement = Retirement(self.applied, boundary_ms, leaving)
            self.retired_ms = boundary_ms
            self.retiring.append(retirement)
            for window in leaving:
                day, at = divmod(window.start_ms // WINDOW_MS, WINDOWS_A_DAY)
                self.held[day] = self.held.get(day, 0) | 1 << at
        for window in leaving:
            if window.loose:
                self.counters.duplicates += sum(map(len, window.loose)) - len(window.loose_effective()[0])
        self.on_retire(retirement)

    def retired(self, retirement: Retirement) -> None:
        """The retirement's windows are durable in the store."""
        with self.lock:
            self.retiring.remove(retirement)

    def clean(self, day: int, below_offset: int, boundary_ms: int) -> bool:
        """Batch rebuilt a day from everything below an offset, up to the boundary: is it clean now?"""
        with self.lock:
            mark, aside = self.marks.get(day), self.asides.get(day)
            if aside is not None:
                aside.forget(below_offset, (boundary_ms - day * DAY_MS) // WINDOW_MS)
                if mark is None or (mark.after_offset <= below_offset and mark.window_end_ms <= boundary_ms):
                    del self.asides[day]
            if mark is not None and mark.after_offset <= below_offset and mark.window_end_ms <= boundary_ms:
                del self.marks[day]
                return True
            return mark is None

    # -- reading ---------------------------------------------------------------------------------------------------------

    def groups(self) -> np.ndarray:
        """uint32[channels]: the group of each channel."""
        return self._groups()

    def open_windows(self) -> list[Window]:
        """The windows in memory, oldest first: open, fired, and on their way to the store."""
        with self.lock:
            leaving = [w for r in self.retiring for w in r.windows]
            return sorted([*leaving, *self.windows.values()], key=lambda w: w.start_ms)

    def fresh_until(self, now_ms: int) -> int | None:
        """Everything that started before this is counted, but for stragglers: the watermark, else the newest start seen."""
        watermark = self.watermark.value(now_ms, self._idle_ms)
        return watermark if watermark is not None else self.watermark.newest()
