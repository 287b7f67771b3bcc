"""Answers of /v1/usage as JSON, CSV, Arrow and Parquet, with quantities as exact decimals in the channel's unit.

JSON numbers of up to 15 digits go through a float, whose shortest text is the exact decimal; larger ones are written digit by
digit. So a client that reads decimals gets the integer sum that is stored, divided by a power of ten.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from meterpulse.model.quantity import UNITS, Unit, decimal_text, from_thousandths
from meterpulse.model.window import local_day, local_midnight
from meterpulse.serving.rowtext import json_of
from meterpulse.serving.usage import Rows

MEDIA = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
_EXACT = 10**15
_YEAR_10000 = 253_402_300_800_000
_PLACES = {unit.name: unit.places for unit in UNITS.values() if unit.scale == 10**unit.places}
_SOURCES = ("speed", "batch")
WORDS = ("validated", "raw", "derived", "edited", "estimated", "questionable")  # of a window: the worse, the later
_RAW = WORDS.index("raw")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked for and what was found. `adds_up` is False where a sum means nothing (registers, gauges)."""

    head: dict[str, Any]  # {"channel": id} or {"area": name, "utility": ...}, and "time_zone"
    grain: str
    unit: Unit
    fresh_until: str | None
    rows: Rows
    adds_up: bool = True
    step_ms: int | None = None  # given with fill=null
    span: tuple[int, int] = (0, 0)
    quality: np.ndarray | None = None  # uint8[n], an index into WORDS for each row; None: all are raw
    is_replaced: np.ndarray | None = None  # bool[n]: a reading of it does not stand

    @property
    def grades(self) -> np.ndarray:
        """uint8[n]: an index into WORDS for each row."""
        return np.full(len(self.rows.start), _RAW, np.uint8) if self.quality is None else self.quality

    @property
    def words(self) -> list[str]:
        """A word of quality for each row."""
        return [WORDS[grade] for grade in self.grades.tolist()]

    @property
    def unread(self) -> np.ndarray:
        """bool[n]: windows whose least, largest and last reading tell nothing: there is none, or one that does not stand."""
        none = self.rows.rows[:, 0] == 0
        return none if self.is_replaced is None else none | self.is_replaced


def iso_texts(ms: np.ndarray) -> list[str]:
    """RFC 3339 in UTC, whole seconds."""
    if not len(ms):
        return []
    return [f"{t}Z" for t in np.datetime_as_string(ms.astype("datetime64[ms]"), unit="s")]


def numbers(quantity: np.ndarray, unit: Unit) -> list[Any]:
    """JSON numbers of thousandths, exact."""
    if len(quantity) and _PLACES.get(unit.name) is not None and int(np.abs(quantity).max()) < _EXACT:
        return [int(q) if q.is_integer() else q for q in (quantity / int(unit.scale)).tolist()]
    return [orjson.Fragment(decimal_text(int(q), unit)) for q in quantity]


def texts(quantity: np.ndarray, unit: Unit) -> list[Any]:
    """Plain digits of thousandths, exact."""
    return [decimal_text(int(q), unit) for q in quantity]


def json_rows(answer: Answer, numbers: Callable[[np.ndarray, Unit], list[Any]] = numbers) -> list[dict[str, Any]]:
    """The "rows" of the JSON answer, oldest first."""
    rows, unit = answer.rows, answer.unit.name
    columns = [
        iso_texts(rows.start),
        numbers(rows.rows[:, 1], answer.unit) if answer.adds_up else [None] * len(rows.start),
        rows.rows[:, 0].tolist(),
        numbers(rows.rows[:, 2], answer.unit),
        numbers(rows.rows[:, 3], answer.unit),
        [_SOURCES[b] for b in rows.batch.tolist()],
        answer.words,
    ]
    if rows.rows.shape[1] == 5:
        last = numbers(rows.rows[:, 4], answer.unit)
        made = [
            {
                "start": s,
                "quantity": q,
                "unit": unit,
                "count": n,
                "min": lo,
                "max": hi,
                "last": la,
                "quality": word,
                "source": src,
            }
            for (s, q, n, lo, hi, src, word), la in zip(zip(*columns, strict=True), last, strict=True)
        ]
    else:
        made = [
            {
                "start": s,
                "quantity": q,
                "unit": unit,
                "count": n,
                "min": lo,
                "max": hi,
                "quality": word,
                "source": src,
            }
            for s, q, n, lo, hi, src, word in zip(*columns, strict=True)
        ]
    for at in np.flatnonzero(answer.unread).tolist():
        made[at] |= {name: None for name in ("min", "max", "last") if name in made[at]}
    return _filled(made, answer) if answer.step_ms else made


def _filled(made: list[dict[str, Any]], answer: Answer) -> list[dict[str, Any]]:
    """With a row of nulls for every window that has no readings: unknown is shown, and is not zero."""
    every = iso_texts(_starts(answer))
    known = {row["start"]: row for row in made}
    nothing = {
        "quantity": None,
        "unit": answer.unit.name,
        "count": 0,
        "min": None,
        "max": None,
        "quality": None,
        "source": None,
    }
    return [known.get(start) or {"start": start, **nothing} for start in every]


def _starts(answer: Answer) -> np.ndarray:
    """Every window that starts in the span of the answer."""
    low, high = answer.span
    if answer.grain != "1d":
        size = answer.step_ms or 1
        return np.arange(-(-low // size) * size, high, size, dtype=np.int64)
    zone = answer.head["time_zone"]
    days = range(local_day(zone, low), local_day(zone, high - 1) + 1) if low < high else range(0)
    starts = [local_midnight(zone, day) for day in days if local_midnight(zone, day) < local_midnight(zone, day + 1)]
    return np.array([start for start in starts if start >= low], np.int64)


def as_json(answer: Answer) -> bytes:
    """The document of /v1/usage."""
    head = {**answer.head, "grain": answer.grain, "unit": answer.unit.name, "fresh_until": answer.fresh_until}
    places, rows = _PLACES.get(answer.unit.name), answer.rows
    if (
        answer.step_ms
        or places is None
        or (len(rows.start) and not 0 <= int(rows.start[0]) <= int(rows.start[-1]) < _YEAR_10000)
    ):
        return orjson.dumps({**head, "rows": json_rows(answer)})
    text = json_of(
        rows.start,
        rows.rows,
        rows.batch,
        answer.grades,
        answer.unread,
        answer.unit.name,
        places,
        WORDS,
        adds_up=answer.adds_up,
    )
    return orjson.dumps({**head, "rows": orjson.Fragment(text)})


def as_json_together(answers: list[Answer]) -> bytes:
    """The document of /v1/usage for several channels: a document of each, in the order of the question."""
    return orjson.dumps({"channels": [orjson.Fragment(as_json(answer)) for answer in answers]})


def as_table(answer: Answer) -> pa.Table:
    """start timestamp[ms] in the zone of the answer, quantities decimal128, exact."""
    rows, unit = answer.rows, answer.unit
    decimal = pa.decimal128(38, unit.places)
    zone = answer.head.get("time_zone", "UTC")

    def exact(column: int) -> pa.Array:
        if column == 1 and not answer.adds_up:
            return pa.nulls(len(rows.start), decimal)
        none = answer.unread if column > 1 else np.zeros(len(rows.start), bool)
        pairs = zip(rows.rows[:, column].tolist(), none.tolist(), strict=True)
        return pa.array([None if n else from_thousandths(q, unit) for q, n in pairs], decimal)

    columns = {
        "start": pa.array(rows.start, pa.timestamp("ms", zone)),
        "quantity": exact(1),
        "unit": pa.array([unit.name] * len(rows.start), pa.string()),
        "count": pa.array(rows.rows[:, 0]),
        "min": exact(2),
        "max": exact(3),
        "quality": pa.array(answer.words, pa.string()),
        "source": pa.array([_SOURCES[b] for b in rows.batch.tolist()], pa.string()),
    }
    if rows.rows.shape[1] == 5:
        columns["last"] = exact(4)
    return pa.table(columns)


def as_bytes(answer: Answer, form: str) -> bytes:
    """The body in one of the forms of MEDIA."""
    if form == "json":
        return as_json(answer)
    if form == "csv":
        lines = ["start,quantity,unit,count,min,max,quality,source"]
        for row in json_rows(answer, texts):
            cells = (row[name] for name in ("start", "quantity", "unit", "count", "min", "max", "quality", "source"))
            lines.append(",".join("" if cell is None else str(cell) for cell in cells))
        return ("\n".join(lines) + "\n").encode()
    return table_bytes(as_table(answer), form)


def table_bytes(table: pa.Table, form: str) -> bytes:
    """A table as an Arrow stream, Parquet with page checksums, or CSV."""
    sink = io.BytesIO()
    if form == "arrow":
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    elif form == "parquet":
        pa.parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    else:
        pa.csv.write_csv(table, sink)
    return sink.getvalue()
