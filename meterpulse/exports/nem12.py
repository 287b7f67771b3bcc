"""NEM12: interval data of the Australian market (AEMO, Meter Data File Format NEM12 & NEM13).

- Electricity in intervals of 5, 15 or 30 minutes. A channel is `<NMI>:<suffix>`; any other id stands as the NMI, with the suffix
  of what it measures (E1, B1, Q1, K1).
- Days are the market's, UTC+10 without summer time. Values are in kWh where four decimals hold all of a block, else in Wh: exact.
- A quality is NEM12's own where it came with one, else the nearest. A day of several has V and 400 records.
- Intervals without a reading are N, and their 0 is no value. Days without any are left out.
- UpdateDateTime is the newest revision of the day, where revisions are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from meterpulse.exports import Export, by_channel
from meterpulse.exports.mdff import (
    OFFSET_MS,
    field,
    in_thousands,
    in_units,
    names,
    quality,
    refusal,
    stamp,
    units,
    updated,
)
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS

_MINUTES = (5, 15, 30)
_MISSING = -1
_NO_VALUE = ("N", "")


class Nem12(Export):
    """See Export."""

    media_type, ending = "text/csv; charset=utf-8", "nem12.csv"
    day_begins_ms = DAY_MS - OFFSET_MS

    def __init__(self, channels: Mapping[int, Channel], made_ms: int):
        super().__init__(channels, made_ms)
        self._names = names(channels, "interval")
        for channel in channels.values():
            if channel.interval_seconds not in {minutes * 60 for minutes in _MINUTES}:
                raise refusal(channel, f"intervals of {channel.interval_seconds} s are not of 5, 15 or 30 minutes")

    def write(self, parts: Iterable[Readings]) -> Iterator[bytes]:
        yield f"100,NEM12,{stamp(self.made_ms // 1_000)[:12]},METERPULSE,METERPULSE\n".encode()
        for part in parts:
            for index, readings in by_channel(part):
                yield "".join(self._stream(index, readings)).encode()
        yield b"900\n"

    def _stream(self, index: int, readings: Readings) -> Iterator[str]:
        """A 200 record and the days behind it."""
        channel, (nmi, suffix) = self.channels[index], self._names[index]
        step = channel.interval_seconds * 1_000
        at = readings.start + OFFSET_MS
        if (at % step).any() or (readings.seconds != channel.interval_seconds).any():
            raise refusal(
                channel, f"it has readings that are no interval of {channel.interval_seconds} s from midnight on"
            )
        thousands, unit = units(channel)
        is_short = not (readings.quantity % 100).any()
        yield (
            f"200,{nmi},{suffix},{suffix},{suffix},,{field(channel.meter)},{thousands if is_short else unit},"
            f"{channel.interval_seconds // 60},\n"
        )
        day = at // DAY_MS
        cuts = np.flatnonzero(np.r_[True, day[1:] != day[:-1], True])
        for first, after in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            places = ((at[first:after] % DAY_MS) // step).tolist()
            texts, told = ["0"] * (DAY_MS // step), [_MISSING] * (DAY_MS // step)
            text_of = in_thousands if is_short else in_units
            for place, value, code in zip(
                places, readings.quantity[first:after].tolist(), readings.quality[first:after].tolist(), strict=True
            ):
                texts[place], told[place] = text_of(value), code
            yield from _day(int(day[first]), texts, told, int(readings.revision[first:after].max()))


def _day(day: int, texts: list[str], told: list[int], revision: int) -> Iterator[str]:
    """A 300 record, and 400 records where its intervals have several qualities."""
    known = {code: _NO_VALUE if code == _MISSING else quality(code) for code in set(told)}
    kinds = set(known.values())
    method, reason = next(iter(kinds)) if len(kinds) == 1 else ("V", "")
    date = stamp((day * DAY_MS - OFFSET_MS) // 1_000)[:8]
    yield f"300,{date},{','.join(texts)},{method},{reason},,{updated(revision)},\n"
    if len(kinds) == 1:
        return
    each = [known[code] for code in told]
    begin = 0
    for place in range(1, len(each) + 1):
        if place == len(each) or each[place] != each[begin]:
            yield f"400,{begin + 1},{place},{each[begin][0]},{each[begin][1]},\n"
            begin = place
