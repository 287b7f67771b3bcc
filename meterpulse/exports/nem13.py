"""NEM13: accumulated reads of the Australian market (AEMO, Meter Data File Format NEM12 & NEM13).

- A 250 record holds two reads that follow each other and what was used between them, so a channel with one read has no record.
- Names, clock, qualities and updates as in NEM12. Dials whose digits are known are written in kWh with all of their digits, others in
  Wh. Quantity is empty where a read is lower than the one before and nobody knows how many digits the dial has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from meterpulse.exports import Export, by_channel
from meterpulse.exports.mdff import field, in_thousands, in_units, names, quality, refusal, stamp, units, updated
from meterpulse.model.channel import Channel
from meterpulse.model.reading import Readings

_Read = tuple[int, int, int, int]  # start ms, quantity, revision, quality


class Nem13(Export):
    """See Export."""

    media_type, ending = "text/csv; charset=utf-8", "nem13.csv"

    def __init__(self, channels: Mapping[int, Channel], made_ms: int):
        super().__init__(channels, made_ms)
        self._names = names(channels, "register")
        self._last: dict[int, _Read] = {}

    def write(self, parts: Iterable[Readings]) -> Iterator[bytes]:
        yield f"100,NEM13,{stamp(self.made_ms // 1_000)[:12]},METERPULSE,METERPULSE\n".encode()
        for part in parts:
            for index, readings in by_channel(part):
                yield "".join(self._records(index, readings)).encode()
        yield b"900\n"

    def _records(self, index: int, readings: Readings) -> Iterator[str]:
        if (readings.start % 1_000).any():
            raise refusal(self.channels[index], "it has reads between two seconds, and the format knows whole ones")
        columns = (readings.start, readings.quantity, readings.revision, readings.quality)
        for read in zip(*(column.tolist() for column in columns), strict=True):
            before = self._last.get(index)
            if before is not None:
                yield self._record(index, before, read)
            self._last[index] = read

    def _record(self, index: int, before: _Read, after: _Read) -> str:
        channel, (nmi, suffix) = self.channels[index], self._names[index]
        thousands, unit = units(channel)
        used = after[1] - before[1]
        if used < 0 and channel.digits is not None:
            used += 10**channel.digits * 10**6 * int(channel.multiplier)
        text = in_units if channel.digits is None else in_thousands
        fields = [
            f"250,{nmi},{suffix},1,{suffix},,{field(channel.meter)},{'I' if channel.direction == 'received' else 'E'}"
        ]
        for start, quantity, _, code in (before, after):
            method, reason = quality(code)
            read = (
                text(quantity)
                if channel.digits is None
                else text(quantity).zfill(_width(channel.digits, text(quantity)))
            )
            fields.append(f"{read},{stamp(start // 1_000)},{method},{reason},")
        fields.append(f"{text(used) if used >= 0 else ''},{unit if channel.digits is None else thousands}")
        return ",".join(fields) + f",,{updated(max(before[2], after[2]))},\n"


def _width(digits: int, text: str) -> int:
    """Of a number with so many digits before its point."""
    return digits + len(text) - len(text.partition(".")[0])
