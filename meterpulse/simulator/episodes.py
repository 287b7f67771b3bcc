"""Faults that hit a channel or an area for a while: drawn once for a run, then applied to each of its sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from meterpulse.model.window import iso
from meterpulse.simulator import places
from meterpulse.simulator.chance import below, hashed, key_of, with_chance
from meterpulse.simulator.city import BLOCKS, CHUNK, City
from meterpulse.simulator.load import quantities

# fault: rate under "all"
EPISODES = {
    "stuck": 0.002,
    "scale_div10": 0.002,
    "clock_drift": 0.002,
    "rollover": 0.1,  # of the registers; only on the first day of a run: before it, a register is nearly full
    "meter_exchange": 0.002,
    "water_leak": 0.004,
    "theft": 0.004,
    "area_outage": 0.01,
}
# How long, in 256ths of the span: from, to. Those that are not here last to its end.
LASTS = {"stuck": (26, 100), "scale_div10": (26, 100), "meter_exchange": (8, 40), "area_outage": (13, 64)}
E, W, LAST_INTERVAL, REGISTERS = 0, 2, 3, (4, 5, 6)  # blocks
ELIGIBLE = {  # the blocks whose channels can have it
    "stuck": (0, 1, 2),
    "scale_div10": (E,),
    "clock_drift": (0, 1, 2),
    "rollover": REGISTERS,
    "meter_exchange": (0, 1, 2, *REGISTERS),
    "water_leak": (W,),
    "theft": (E,),
}
DRIFT_SECONDS_MAX = 240
BEGINS_WITHIN = 190  # 256ths of the span


@dataclass(frozen=True, eq=False)
class Applied:
    """A part of a sweep after the episodes. None stands for: as it was."""

    quantity: np.ndarray
    keep: np.ndarray | None  # bool[n]
    start: np.ndarray | None  # int64[n]
    touched: np.ndarray  # the rows that an episode is on


class Plan:
    """The episodes of a run, ascending by channel, one at most for each; and the outages of areas."""

    def __init__(
        self,
        city: City,
        rates: dict[str, float],
        start_ms: int,
        end_ms: int,
        every_seconds: int,
        taken: np.ndarray | None = None,
    ):
        """`taken` (int64, ascending) are channels that get no episode: the `lasting` ones of earlier plans."""
        self._city, self._every_ms = city, every_seconds * 1000
        self._start_ms, self.end_ms = start_ms, end_ms
        self._taken = np.empty(0, np.int64) if taken is None else taken
        self._names = [name for name in EPISODES if name in rates]
        self._outages = self._draw_outages(rates.get("area_outage", 0.0))
        channel, fault = self._draw(rates)
        self.channel, self.fault = channel, fault
        key = key_of(city.seed, f"episodes {start_ms}")
        bits, more = hashed(key, channel), hashed(key + 1, channel)
        span = end_ms - start_ms
        self.begin = self._align(start_ms + below(bits, BEGINS_WITHIN) * span // 256)
        self.end = np.full(len(channel), end_ms, np.int64)
        for i, name in enumerate(self._names):
            if name in LASTS:
                shortest, longest = LASTS[name]
                lasts = (shortest + below(more, longest - shortest)) * span // 256
                self.end[fault == i] = np.minimum(self._align(self.begin + lasts) + self._every_ms, end_ms)[fault == i]
        self.amount = self._amounts(more & np.uint64(0xFFFF))
        self._order = np.argsort(self.begin, kind="stable")
        self._told = self._dark_told = 0

    @property
    def lasting(self) -> np.ndarray:
        """int64, ascending: the registers that this plan changes beyond its end."""
        parts = [outage.registers for outage in self._outages]
        for i, name in enumerate(self._names):
            if name in ("rollover", "meter_exchange"):
                mine = self.channel[self.fault == i]
                parts.append(mine[mine >= self._city.blocks[REGISTERS[0]]])
        return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))

    def apply(self, channel: np.ndarray, so_far: Applied, at_ms: int, seconds: int) -> Applied:
        """The episodes on channel[n] (ascending, among all channels of the city) for the readings at `at_ms`."""
        row, mine = _rows(channel, self.channel)
        on = (self.begin[mine] <= at_ms) & (at_ms < self.end[mine])
        quantity, keep, start = so_far.quantity, so_far.keep, so_far.start
        touched = [so_far.touched, row[on]]
        if len(mine):
            quantity = quantity.copy()
        for i, name in enumerate(self._names):
            which = self.fault[mine] == i
            if name == "meter_exchange":
                after = which & (at_ms >= self.end[mine]) & (self.channel[mine] >= self._city.blocks[REGISTERS[0]])
                quantity[row[after]] -= self.amount[mine[after]]
                touched.append(row[after])
                if (which & on).any():
                    keep = np.ones(len(channel), bool) if keep is None else keep
                    keep[row[which & on]] = False
            elif name == "rollover":
                e, r = mine[which], row[which]
                since = quantity[r] - self.amount[e]
                # Where nothing was used just before, the last thousandth was: a register shows 9999999 before its 0.
                since = np.where(at_ms < self.begin[e], np.minimum(since, -1), since)
                quantity[r] = since % self._modulus(self.channel[e])
                touched.append(r)
            elif name == "clock_drift" and (which & on).any():
                e, r = mine[which & on], row[which & on]
                start = np.full(len(channel), at_ms, np.int64) if start is None else start
                start[r] += self.amount[e] * (at_ms - self.begin[e]) // (self.end[e] - self.begin[e])
            elif name in _CHANGES and (which & on).any():
                e, r = mine[which & on], row[which & on]
                quantity[r] = _CHANGES[name](quantity[r], self.amount[e], seconds)
        dark, less = self._dark(channel, at_ms)
        if len(dark):
            keep = np.ones(len(channel), bool) if keep is None else keep
            keep[dark] = False
            touched.append(dark)
        if len(less[0]):
            quantity = quantity.copy()
            quantity[less[0]] -= less[1]
        return Applied(quantity, keep, start, np.unique(np.concatenate(touched)))

    def begun(self, at_ms: int) -> list[dict[str, Any]]:
        """Truth rows of the episodes that have begun by `at_ms` and were not told before."""
        end = self._told
        while end < len(self._order) and self.begin[self._order[end]] <= at_ms:
            end += 1
        which, self._told = self._order[self._told : end], end
        ids = self._city.ids(self.channel[which]).to_pylist() if len(which) else []
        rows = [
            {
                "fault": (name := self._names[self.fault[e]]),
                "channel": id,
                "start": iso(int(self.begin[e])),
                "end": iso(int(self.begin[e] if name == "rollover" else self.end[e])),
                "detail": _DETAILS[name](int(self.amount[e]), BLOCKS[block]),
            }
            for e, id, block in zip(which.tolist(), ids, self._city.block_of(self.channel[which]).tolist(), strict=True)
        ]
        while self._dark_told < len(self._outages) and self._outages[self._dark_told].begin <= at_ms:
            o = self._outages[self._dark_told]
            detail = {"area": places.postcodes()[o.area].name, "channels": len(o.channels)}
            rows.append(
                {"fault": "area_outage", "channel": None, "start": iso(o.begin), "end": iso(o.end), "detail": detail}
            )
            self._dark_told += 1
        return rows

    def _draw(self, rates: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
        """(channels, ascending; index of each one's fault in `_names`)."""
        city, channels, faults = self._city, [], []
        key = key_of(city.seed, f"episode {self._start_ms}")
        registered = np.zeros(city.customers, bool)
        registered[city.members[city.blocks[4] - city.blocks[3] : city.blocks[7] - city.blocks[3]]] = True
        dark = np.isin(np.arange(len(places.postcodes())), [o.area for o in self._outages])
        for block, (first, end) in enumerate(zip(city.blocks[:-1].tolist(), city.blocks[1:].tolist(), strict=True)):
            able = [i for i, name in enumerate(self._names) if block in ELIGIBLE.get(name, ())]
            for at in range(first, end, CHUNK) if able else ():
                rows = np.arange(at, min(at + CHUNK, end))
                free = ~np.isin(rows, self._taken)
                if BLOCKS[block].utility == "electricity" and self._outages:
                    free &= ~dark[city.area_of(rows)]
                for i in able:
                    hit = free & with_chance(hashed(key + i, rows), rates[self._names[i]])
                    if self._names[i] in ("water_leak", "theft"):  # their registers would have to tell the same story
                        hit &= ~registered[city.customer_of(rows)]
                    free &= ~hit
                    channels.append(rows[hit])
                    faults.append(np.full(int(hit.sum()), i))
        if not channels:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        channel, fault = np.concatenate(channels), np.concatenate(faults)
        order = np.argsort(channel)
        return channel[order], fault[order]

    def _amounts(self, bits: np.ndarray) -> np.ndarray:
        """int64: what each episode needs to know: a value, a share, a flow, a drift in ms."""
        bits = bits.astype(np.int64)
        amount = np.zeros(len(self.channel), np.int64)
        for i, name in enumerate(self._names):
            e = np.flatnonzero(self.fault == i)
            if not len(e):
                continue
            if name == "stuck":
                amount[e] = np.maximum(
                    quantities(self._city, self.channel[e], self.begin[e], self._every_ms // 1000), 1
                )
            elif name == "clock_drift":
                most = np.minimum((self.end[e] - self.begin[e]) // 4, DRIFT_SECONDS_MAX * 1000)
                amount[e] = (most // 4 + most * 3 // 4 * (bits[e] >> 1) // 32_768) * np.where(bits[e] & 1, 1, -1)
            elif name in ("rollover", "meter_exchange"):
                turn = self.begin[e] if name == "rollover" else self.end[e]
                amount[e] = quantities(self._city, self.channel[e], turn, 1)
            elif name == "water_leak":
                amount[e] = 2 + (bits[e] & 7) ** 2  # 7 to 184 litres an hour
            elif name == "theft":
                amount[e] = 20 + bits[e] % 41
        return amount

    def _draw_outages(self, rate: float) -> list[_Outage]:
        city = self._city
        if not rate or "electricity" not in city.utilities:
            return []
        areas = np.arange(len(places.postcodes()))
        key = key_of(city.seed, f"outage {self._start_ms}")
        hit = areas[with_chance(hashed(key, areas), rate)]
        electric = np.concatenate(
            [
                np.arange(city.blocks[b], city.blocks[b + 1])
                for b, of in enumerate(BLOCKS)
                if of.utility == "electricity"
            ]
        )
        home = city.area_of(electric)
        span, (shortest, longest), out = self.end_ms - self._start_ms, LASTS["area_outage"], []
        begins = self._align(self._start_ms + below(hashed(key + 1, hit), BEGINS_WITHIN) * span // 256)
        lasts = (shortest + below(hashed(key + 2, hit), longest - shortest)) * span // 256
        ends = np.minimum(self._align(begins + lasts) + self._every_ms, self.end_ms)
        for area, begin, end in zip(hit.tolist(), begins.tolist(), ends.tolist(), strict=True):
            channels = electric[home == area]
            if len(channels):
                registers = channels[city.block_of(channels) == REGISTERS[0]]
                used = quantities(city, registers, end, 1) - quantities(city, registers, begin, 1)
                out.append(_Outage(area, begin, end, channels, registers, used))
        return sorted(out, key=lambda outage: outage.begin)

    def _dark(self, channel: np.ndarray, at_ms: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Rows that an outage silences, and (rows, amounts) by which registers are behind after one."""
        dark, behind, by = [], [], []
        for outage in self._outages:
            if outage.begin <= at_ms < outage.end:
                dark.append(_rows(channel, outage.channels)[0])
            elif at_ms >= outage.end:
                rows, found = _rows(channel, outage.registers)
                behind.append(rows)
                by.append(outage.used[found])
        none = np.empty(0, np.int64)
        return np.concatenate([none, *dark]), (np.concatenate([none, *behind]), np.concatenate([none, *by]))

    def _align(self, ms: np.ndarray) -> np.ndarray:
        """To the sweep before."""
        return self._start_ms + (ms - self._start_ms) // self._every_ms * self._every_ms

    def _modulus(self, channel: np.ndarray) -> np.ndarray:
        """Where the register of each channel begins again."""
        return np.array([b.scale * 10 ** (b.digits or 0) for b in BLOCKS], np.int64)[self._city.block_of(channel)]


@dataclass(frozen=True, eq=False)
class _Outage:
    area: int
    begin: int
    end: int
    channels: np.ndarray  # int64, ascending: all that need the mains
    registers: np.ndarray  # of them
    used: np.ndarray  # what the registers would have counted meanwhile


_CHANGES = {
    "stuck": lambda quantity, amount, seconds: amount,
    "scale_div10": lambda quantity, amount, seconds: quantity // 10,
    "water_leak": lambda quantity, amount, seconds: quantity + amount * seconds,
    "theft": lambda quantity, amount, seconds: quantity * amount // 100,
}
_DETAILS = {
    "stuck": lambda amount, of: {"value": amount},
    "scale_div10": lambda amount, of: {"divisor": 10},
    "clock_drift": lambda amount, of: {"seconds_at_end": amount / 1000},
    "rollover": lambda amount, of: {"digits": of.digits},
    "meter_exchange": lambda amount, of: {"index_of_old_meter": amount} if of.digits else {},
    "water_leak": lambda amount, of: {"litres_per_hour": amount * 3600 / 1000},
    "theft": lambda amount, of: {"percent_still_measured": amount},
}


def _rows(channel: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where `wanted` (ascending) stand in `channel` (ascending), and which of them do."""
    if not len(channel):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    a, b = np.searchsorted(wanted, (channel[0], int(channel[-1]) + 1))
    row = np.minimum(np.searchsorted(channel, wanted[a:b]), len(channel) - 1)
    found = np.flatnonzero(channel[row] == wanted[a:b])
    return row[found], found + a
