"""DSMR P1: telegrams of Dutch, Belgian and related meters, one or many in a file.

- The channel's id is `<equipment id>:<OBIS>` (K8EG004046395507:1-0:1.8.1); gas and water meters on the M-Bus have their own
  equipment id (G0039001004601:0-1:24.2.1). Ids that are sent in hexadecimal are written as the text that they are.
- Registers are 1.8.x and 2.8.x of each tariff and direction, and gas and water in m3; power, voltage, current and the
  quarter-hour demand are gauges. Thresholds, texts, counters of failures, logs and heat are left out.
- Stamps are local with S (summer) or W behind them, so the hour that comes twice is told apart; gas and water have stamps
  of their own. DSMR 2 and 3 send no S or W: an hour that came twice is refused there.
- A telegram before DSMR 4 tells no time for its electricity. A line with an ISO 8601 time and offset before the telegram does;
  without one these readings are refused.
- The CRC is checked where there is one, and from DSMR 4 on there has to be. Line ends may have been changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import BodyError, RowError
from meterpulse.ingest.gathered import BATCH_ROWS, Gathered
from meterpulse.ingest.telegram import telegram
from meterpulse.model.window import instant_ms

MEDIA_TYPE = "text/x-dsmr-p1"
TELEGRAM_BYTES_MAX = 64 * 1024
_LINE_BYTES_MAX = 8 * 1024


class DsmrP1(Format):
    """P1 telegrams; positions are bytes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By a line such as /KFM5KAIFA-METER and an OBIS code behind it."""
        lines = [line.strip() for line in head.splitlines()[:80]]
        begins = [i for i, line in enumerate(lines) if line[:1] == b"/" and len(line) > 5 and line[1:4].isalnum()]
        return bool(begins) and any(_is_obis(line) for line in lines[begins[0] + 1 :])

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`."""
        rows, seen = Gathered(MEDIA_TYPE), False
        for data, received_ms, end in _telegrams(path):
            seen = True
            if end > after:
                _take(rows, data, received_ms)
            if rows.rows >= BATCH_ROWS:
                yield rows.batch(end)
        if not seen:
            raise BodyError(422, f"{path.name} holds no telegram: none begins with / and ends with !")
        if rows:
            yield rows.batch(path.stat().st_size)


def _is_obis(line: bytes) -> bool:
    code, bracket, _ = line.partition(b"(")
    return bool(bracket) and b":" in code and b"." in code and code[:1].isdigit()


def _telegrams(path: Path) -> Iterator[tuple[bytes, int | None, int]]:
    """Each from / to its ! line, the time of the line before it, and the position behind it. One that is cut, or grows beyond
    all measure, comes without its end."""
    with open(path, "rb") as file:
        parts: list[bytes] = []
        size, received_ms = 0, None
        while line := file.readline(_LINE_BYTES_MAX):
            start = line.lstrip()[:1]
            if start == b"/" or size > TELEGRAM_BYTES_MAX:
                if parts:
                    yield b"".join(parts), received_ms, file.tell() - len(line)
                    received_ms = None
                parts, size = ([line], len(line)) if start == b"/" else ([], 0)
            elif parts:
                parts.append(line)
                size += len(line)
                if start == b"!":
                    yield b"".join(parts), received_ms, file.tell()
                    parts, size, received_ms = [], 0, None
            else:
                received_ms = _time(line, received_ms)
        if parts:
            yield b"".join(parts), received_ms, file.tell()


def _time(line: bytes, before: int | None) -> int | None:
    try:
        return instant_ms(line.decode("ascii").strip())
    except ValueError:
        return before


def _take(rows: Gathered, data: bytes, received_ms: int | None) -> None:
    try:
        if b"\n!" not in data or len(data) > TELEGRAM_BYTES_MAX:
            raise RowError("truncated", "the telegram does not end with a line that begins with !")
        found = telegram(data, received_ms)
    except RowError as error:
        rows.refuse(error.reason, error.detail, data)
        return
    for refused in found.refused:
        rows.refuse(refused.reason, refused.detail, data)
    if not found.values and not found.refused:
        rows.ignore("telegrams without readings")
    for value in found.values:
        number = rows.channel(value.channel)
        rows.add(number, [value.start_ms], value.seconds, [value.text], value.scale, data)
