"""NEM13: accumulated reads of the Australian market (AEMO, Meter Data File Format NEM12 & NEM13).

- The channel's id is `<NMI>:<suffix>` (NEM1315082:41), a register: what the dial showed at an instant. Each 250 record gives
  two reads, the previous and the current one, with their quality methods and reason codes. A read that stands in two
  records counts once.
- Times are NEM time, UTC+10 without daylight saving. Direction I goes into the network (received), E comes out of it.
- Consumption is the difference of reads, so Quantity is not stored beside them (it would count twice). It tells how many
  digits the dial has where it passed zero, and the factor where it is a whole multiple of the difference.
- UpdateDateTime becomes the revision. 550 records (orders between businesses) are counted and passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path

from meterpulse.ingest import FileBatch, Format
from meterpulse.ingest.contract import RowError
from meterpulse.ingest.gathered import BATCH_ROWS, Gathered
from meterpulse.ingest.mdff import (
    ZONE,
    Record,
    identity,
    is_mdff,
    measure_of,
    quality_of,
    records,
    revision_of,
    stamp_ms,
)
from meterpulse.model.channel import Channel, ChannelError
from meterpulse.model.quality import FLAGS

MEDIA_TYPE = "text/x-nem13"
_NO_VALUE = FLAGS.index("N")
_PREVIOUS, _CURRENT, _QUANTITY, _UOM, _UPDATED = 8, 13, 18, 19, 21


class Nem13(Format):
    """NEM13 files; positions are bytes."""

    def fits(self, head: bytes, path: Path) -> bool:
        """By its header 100,NEM13."""
        return is_mdff(head, b"NEM13")

    def read(self, path: Path, after: int = 0) -> Iterator[FileBatch]:
        """See `Format.read`."""
        rows, ended = Gathered(MEDIA_TYPE), True
        for record in records(path, "NEM13"):
            if record.end > after:
                _take(rows, record)
            ended = record.kind == "900"
            if rows.rows >= BATCH_ROWS:
                yield rows.batch(record.end)
        if not ended:
            rows.refuse("truncated", "the file ends without its 900 record: it may be cut", b"")
        if rows:
            yield rows.batch(path.stat().st_size)


def _take(rows: Gathered, record: Record) -> None:
    try:
        if not record.whole and record.kind != "900":
            raise RowError("truncated", "the last record is not whole; ask for the file again")
        if record.kind == "250":
            _reads(rows, record)
        elif record.kind == "550":
            rows.ignore("550 B2B details")
        elif record.kind not in ("100", "900"):
            raise RowError("bad_csv", f"{record.kind[:20]!r} is not a NEM13 record; they are 100, 250, 550, 900")
    except RowError as error:
        rows.refuse(error.reason, error.detail, record.original)


def _reads(rows: Gathered, record: Record) -> None:
    if len(record.fields) < _UOM + 1:
        raise RowError("bad_csv", f"a 250 record has 23 fields; this one has {len(record.fields)}")
    id, measure = identity(record.field(1), record.field(4)), measure_of(record.field(_UOM))
    revision, direction = revision_of(record.field(_UPDATED)), record.field(7).upper()
    if direction not in ("I", "E"):
        raise RowError("bad_csv", f"direction {direction[:9]!r} is not I or E")
    digits, factor = _dial(record)
    reads = [_read(record, at) for at in (_PREVIOUS, _CURRENT)]
    try:
        channel = Channel(
            id,
            "electricity",
            measure.unit,
            usage_point=record.field(1),
            meter=record.field(6)[:100] or None,
            direction="received" if direction == "I" else "delivered",
            kind="register",
            interval_seconds=86_400,
            digits=digits,
            time_zone=ZONE,
        )
    except ChannelError as error:
        raise RowError("missing_field", str(error)) from None
    number = rows.channel(channel)
    for read in reads:
        if read is None:
            rows.refuse("missing", f"{id}: a read of quality N has no value", record.original)
        else:
            start, text, quality = read
            rows.add(number, [start], 1, [text], measure.scale * factor, record.original, revision, quality)


def _read(record: Record, at: int) -> tuple[int, str, int] | None:
    """(instant, read, quality) of the fields from `at` on; None for one without a value."""
    text, stamp, method, reason = (record.field(at + k) for k in range(4))
    quality = quality_of(method, reason)
    if quality >> 16 & 7 == _NO_VALUE or not text:
        return None
    return stamp_ms(stamp), text, quality


def _dial(record: Record) -> tuple[int | None, int]:
    """How many digits the dial has, where the record shows it, and how much one on the dial is."""
    before, after = record.field(_PREVIOUS), record.field(_CURRENT)
    try:
        passed, used = Decimal(after) - Decimal(before), abs(Decimal(record.field(_QUANTITY) or "0"))
    except InvalidOperation:
        return None, 1  # the read itself is refused when its number is taken
    if not passed.is_finite() or not used.is_finite():
        return None, 1
    width = len(after.partition(".")[0])
    wide = width == len(before.partition(".")[0]) and 1 <= width <= 12
    padded = width > 1 and (before.startswith("0") or after.startswith("0"))  # the 0 of 0.5 tells nothing
    if passed < 0:
        return (width if wide and abs(passed + 10**width - used) <= 1 else None), 1
    factor = round(used / passed) if passed > 0 else 1
    whole = 1 < factor <= 10**6 and passed > 10 and abs(used - factor * passed) < factor
    return (width if wide and padded else None), factor if whole else 1
