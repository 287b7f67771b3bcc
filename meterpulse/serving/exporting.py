"""Files of readings or usage, made piece by piece: the channels that were asked for, then the lake day by day, or the views.

Readings are those that stand: of each channel and start the one with the highest revision, the first that came among equals. They
are what was measured; decisions and estimates are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from meterpulse import plugins
from meterpulse.exports import Export, tables
from meterpulse.lake import reader
from meterpulse.model.channel import Channel
from meterpulse.model.problem import Problem
from meterpulse.model.reading import Readings
from meterpulse.model.window import DAY_MS, instant_ms
from meterpulse.serving.answers import as_table
from meterpulse.serving.queries import UsageQuery, usage

if TYPE_CHECKING:
    from meterpulse.pipeline import Pipeline

CHANNELS_MAX = 100_000
GRAINS = ("readings", "5m", "1h", "1d")
_TOGETHER = 256  # channels whose readings are sorted together
_ROWS = 1 << 20  # readings of a part, give or take a day
_MEASURES = ("quantity", "min", "max", "last")
USAGE = pa.schema(
    [
        ("channel", pa.string()),
        ("start", pa.timestamp("ms", "UTC")),
        ("quantity", tables.DECIMAL),
        ("unit", pa.string()),
        ("count", pa.int64()),
        ("min", tables.DECIMAL),
        ("max", tables.DECIMAL),
        ("last", tables.DECIMAL),
        ("quality", pa.string()),
        ("source", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What /v1/export takes; texts as they came. Channels are ids, or patterns such as E-00*."""

    channel: Sequence[str] | None = None
    area: str | None = None
    utility: str | None = None
    usage_point: str | None = None
    customer: str | None = None
    start: str | None = None
    end: str | None = None
    format: str = "csv"
    grain: str = "readings"


@dataclass(frozen=True, slots=True)
class File:
    """A file that is on its way."""

    media_type: str
    name: str
    pieces: Iterator[bytes]


def formats() -> list[str]:
    """The names of the formats there are."""
    return plugins.available("exports", "Export")


def export(p: Pipeline, asked: Asked) -> File:
    """Raises Problem 404 and 422 before the first piece. A piece may raise Problem too: then the file is not whole."""
    if asked.format not in formats():
        raise Problem(422, "query", "No such format", f"format={asked.format[:40]!r}; it takes {', '.join(formats())}.")
    if asked.grain not in GRAINS:
        raise Problem(422, "query", "No such grain", f"grain={asked.grain[:40]!r}; it takes {', '.join(GRAINS)}.")
    if asked.grain != "readings" and asked.format not in tables.MEDIA:
        raise Problem(422, "query", "No such file", f"{asked.format} holds readings, not usage; leave the grain out.")
    channels = chosen(p, asked)
    kind: type[Export] = plugins.implementation("exports", asked.format, "Export")
    file = kind(channels, p.clock())
    if asked.grain == "readings":
        low, high = _span(asked)
        pieces = file.write(parts(p, sorted(channels), low, high, kind.day_begins_ms))
    else:
        ids = [channels[index].id for index in sorted(channels)]
        queries = [UsageQuery(channel=id, start=asked.start, end=asked.end, grain=asked.grain) for id in ids]
        first = _usage_table(p, queries[0])  # a span that is wrong is told before the file begins
        rest = (_usage_table(p, query) for query in queries[1:])
        pieces = tables.stream(asked.format, USAGE, _chain(first, rest))
    return File(kind.media_type, f"meterpulse.{kind.ending}", pieces)


def chosen(p: Pipeline, asked: Asked) -> dict[int, Channel]:
    """By dense index; raises Problem 404 and 422."""
    filters = {name: getattr(asked, name) for name in ("area", "utility", "usage_point", "customer")}
    given = {name: value for name, value in filters.items() if value is not None}
    if not asked.channel and not given:
        raise Problem(
            422,
            "query",
            "Which channels?",
            "Give channel= (ids or patterns), area=, utility=, usage_point= or customer=.",
        )
    names = list(asked.channel or [])
    if names and not given and not any(_is_pattern(name) for name in names):
        rows = [_known(p, name) for name in names]
    else:
        rows = [
            row
            for batch in p.registry.channel_batches(**given)
            for row in batch.to_pylist()
            if not names or any(row["id"] == name or fnmatchcase(row["id"], name) for name in names)
        ]
    if not rows:
        raise Problem(404, "no-channel", "No such channels", "No channel is what you asked for; see /v1/channels.")
    if len(rows) > CHANNELS_MAX:
        raise Problem(
            422, "query", "Too many channels", f"{len(rows)} channels; a file takes {CHANNELS_MAX}: ask by area."
        )
    return {int(row["index"]): Channel.from_dict(row) for row in rows}


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _known(p: Pipeline, id: str) -> Mapping[str, object]:
    found = p.registry.channel(id)
    if found is None:
        raise Problem(404, "no-channel", "No such channel", f"{id[:200]!r} is not registered.")
    return found


def _span(asked: Asked) -> tuple[int, int]:
    try:
        low = instant_ms(asked.start) if asked.start else -(10**15)
        high = instant_ms(asked.end) if asked.end else 10**15
    except ValueError as error:
        raise Problem(422, "time", "A time that cannot be read", str(error)) from None
    if low >= high:
        raise Problem(422, "time", "The span is empty", "end must be after start.")
    return low, high


def parts(p: Pipeline, indices: Sequence[int], low: int, high: int, begins_ms: int = 0) -> Iterator[Readings]:
    """The readings that stand of these channels (ascending) in [low, high), sorted by channel and start, a bounded number at a
    time. Parts are cut where a day begins, `begins_ms` behind midnight in UTC."""
    p.lake.ask("flush", to=p.log.end, timeout_seconds=600)
    days = [day for day in sorted(p.lake.ask("days")) if low // DAY_MS <= day <= (high - 1) // DAY_MS]
    for at in range(0, len(indices), _TOGETHER):
        wanted = np.array(indices[at : at + _TOGETHER], np.uint32)
        held: list[Readings] = []
        for day in days:
            held += _of_day(p, day, wanted, low, high)
            if sum(map(len, held)) >= _ROWS:
                rows = Readings.concat(held)
                whole = rows.full("start") < day * DAY_MS + (begins_ms or DAY_MS)
                held = [rows.take(~whole)]
                yield from _standing(rows.take(whole))
        yield from _standing(Readings.concat(held))


def _of_day(p: Pipeline, day: int, wanted: np.ndarray, low: int, high: int) -> Iterator[Readings]:
    for rows in reader.read(p.lake.files(day), (int(wanted[0]), int(wanted[-1]) + 1)):
        start = rows.full("start")
        found = np.isin(rows.channel, wanted) & (start >= low) & (start < high)
        if found.any():
            yield rows.take(found)


def _standing(rows: Readings) -> Iterator[Readings]:
    if not len(rows):
        return
    start, revision = rows.full("start"), rows.full("revision")
    order = np.lexsort((-revision, start, rows.channel))  # stable: among equals the first that came
    channel, start = rows.channel[order], start[order]
    is_first = np.r_[True, (channel[1:] != channel[:-1]) | (start[1:] != start[:-1])]
    yield rows.take(order[is_first])


def _usage_table(p: Pipeline, query: UsageQuery) -> pa.Table:
    table = as_table(usage(p, query))
    table = table.add_column(0, "channel", pa.array([query.channel] * len(table), pa.string()))
    return table.select(USAGE.names).cast(USAGE)


def _chain(first: pa.Table, rest: Iterable[pa.Table]) -> Iterator[pa.Table]:
    yield first
    yield from rest
